"""The certificate: what is released, what is proven and measured of it, and what that was held to.

One frozen type, laid out by the headings of ISO/IEC 27559 (context, data, identifiability, governance), is the content of
`certificate.json`, and all that `certificate.html` is drawn from.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from tckr.audit.attack_results import Interval, Result
from tckr.audit.guarantee import certified_aop
from tckr.audit.proven import Guarantee
from tckr.audit.results import Audit
from tckr.audit.things import Extraction, ModelAudit
from tckr.dp.accounting import Mechanism
from tckr.dp.trade_off import trade_off
from tckr.images.report import pictures
from tckr.metrics import ROC_GRID, clopper_pearson
from tckr.release.policy import ATTACKED, Clause, Kind, Policy, clauses, upper_aucs
from tckr.release.rows import Row, rows

VERSION: Literal[1] = 1
# What is not tried where no row `joint` stands.
ONE_BY_ONE = "several released things together by one attacker who joins what he learns from each"
NOT_TRIED = (
    "attacks that read the weights or the gradients of a network themselves",
    "an attacker who holds other images of a member, or a caption of his that a person wrote",
    "training data that an attacker has poisoned beforehand",
    "guessing an attribute of a member, or whether a whole group took part (property inference)",
    "reconstruction of single images beyond the copies that the audit counts",
)
NEEDS_PRIVATE_DATA = (
    "accuracy: the private test images",
    "every AUC, true-positive rate and lower bound of epsilon: members and holdout",
    "the figures of the exposed groups and of the classes: members and holdout, and the shadows",
    "that the ledger's noise was drawn as it says: the run itself",
)


class Made(Result):
    """What made a release."""

    release: str = Field(description="identifier of the run that wrote it, and its version")
    run: str = Field(description="run whose artefacts it holds")
    made: str = Field(description="when, UTC, ISO 8601")
    commit: str = Field(description="of the code, and whether files differed from it")
    versions: dict[str, str] = Field(description="of tckr, Python and the libraries")


class Withheld(Result):
    """Something that does not go."""

    thing: Kind
    title: str = Field(description="in words")
    why: str = Field(description="the reason")


class Context(Result):
    """The release and what it was held to."""

    policy_name: str = Field(description="of the policy")
    policy: Policy = Field(description="its limits")
    clauses: tuple[Clause, ...] = Field(description="each limit beside what the release has")
    things: tuple[Kind, ...] = Field(min_length=1, description="what goes")
    withheld: tuple[Withheld, ...] = Field(description="what does not, and why")
    arm: str = Field(description="the way from private to synthetic images")


class Data(Result):
    """The private set, in numbers that are published, and the set that is released."""

    unit: Literal["image", "person"] = Field(
        description="whose membership is protected and attacked"
    )
    members: int = Field(
        description="private images behind the release, copies of a canary counted once"
    )
    classes: tuple[str, ...] = Field(description="names of the classes")
    images: int = Field(description="of the recycled set; 0 if it does not go")
    per_class: dict[str, int] = Field(description="images of the recycled set by class")
    soft_labels: bool = Field(
        description="whether a teacher's class probabilities go with the images"
    )
    files: dict[str, str] = Field(
        default={}, description="SHA-256 of everything that goes, by path"
    )


class Limit(Result):
    """Curve above which no ROC can lie if the ledger is right, at `tckr.metrics.ROC_GRID`."""

    fpr: tuple[float, ...] = Field(description="false-positive rates, ascending to 1")
    tpr: tuple[float, ...] = Field(description="largest true-positive rate: one image more or less")
    tpr_of_two: tuple[float, ...] = Field(description="the same for two changes, as in the audit")


class Identifiability(Result):
    """What is proven, what was measured, what was not tried."""

    guarantee: Guarantee | None = Field(
        description="what the ledger proves; None: no formal guarantee"
    )
    limit: Limit | None = Field(description="its trade-off curve; None: no formal bound")
    rows: dict[str, Row] = Field(description="everything that was attacked, by name")
    upper_auc: dict[str, float] = Field(
        description="of everything that goes: what no attack is known to pass, a share"
    )
    extraction: tuple[Extraction, ...] = Field(
        description="private images that the recycled set reproduces, by space and distance; empty: not counted"
    )
    not_tried: tuple[str, ...] = Field(description="attackers that nobody tried")


class Use(Result):
    """What the student can do."""

    accuracy: Interval | None = Field(description="on the private test images, a share")
    n_test: int = Field(description="test images")
    per_class: dict[str, float | None] = Field(
        description="accuracy by class, percent; None without a test image"
    )
    certified_aop: float | None = Field(
        description="least accuracy over privacy, whatever the attack"
    )


class Governance(Result):
    """Who made it, and what can be verified by whom."""

    made: Made
    needs_private_data: tuple[str, ...] = Field(
        description="figures that only the data owner can compute again"
    )


class Certificate(Result):
    """Everything that `certificate.json` contains."""

    version: Literal[1] = VERSION
    context: Context
    data: Data
    identifiability: Identifiability
    use: Use
    governance: Governance

    @property
    def proven(self) -> Guarantee | None:
        """Return the guarantee if it protects anybody."""
        found = self.identifiability.guarantee
        return found if found is not None and found.private else None


def certify(
    audit: Audit,
    *,
    policy_name: str,
    policy: Policy,
    things: tuple[Kind, ...],
    withheld: tuple[Withheld, ...],
    arm: str,
    accuracy: Mapping[str, Any],
    ingestion_report: Mapping[str, Any],
    per_class: Mapping[str, int],
    soft_labels: bool,
    made: Made,
) -> Certificate:
    """Return the certificate of a release, still without the hashes of its files.

    Args:
        audit: of the run.
        policy_name: of the policy in force.
        policy: its limits.
        things: what goes.
        withheld: what does not.
        arm: name of the way.
        accuracy: `n_test`, `classes`, and the `accuracy` and `per_class` of the student, percent.
        ingestion_report: of the private set; its counts and class names are used, no name of a file.
        per_class: images of the recycled set by class.
        soft_labels: whether they are in the set.
        made: by what.
    """
    going = frozenset(name for thing in things for name in ATTACKED[thing])
    table, proven = rows(audit, going), audit.proven
    own = accuracy.get("student")
    share = None if own is None else own["accuracy"]
    confidence = next(iter(table.values())).primary.auc.confidence
    held_to = clauses(policy, things, table, proven, share)
    return Certificate(
        context=Context(
            policy_name=policy_name,
            policy=policy,
            clauses=held_to,
            things=things,
            withheld=withheld,
            arm=arm,
        ),
        data=Data(
            unit=unit_of(audit),
            members=pictures(ingestion_report, "members"),
            classes=tuple(ingestion_report["classes"]),
            images=sum(per_class.values()),
            per_class=dict(per_class),
            soft_labels=soft_labels,
        ),
        identifiability=Identifiability(
            guarantee=audit.guarantee,
            limit=None if proven is None else limit(proven),
            rows=table,
            upper_auc=upper_aucs(things, table, proven),
            extraction=audit.extraction,
            not_tried=NOT_TRIED if "joint" in table else (ONE_BY_ONE, *NOT_TRIED),
        ),
        use=Use(
            accuracy=None
            if share is None
            else accuracy_interval(share, accuracy["n_test"], confidence),
            n_test=accuracy["n_test"],
            per_class={}
            if own is None
            else dict(zip(accuracy["classes"], own["per_class"], strict=True)),
            certified_aop=None if share is None else certified_aop(share, proven),
        ),
        governance=Governance(made=made, needs_private_data=NEEDS_PRIVATE_DATA),
    )


def limit(proven: Guarantee) -> Limit:
    """Return the trade-off curve of all mechanisms of a guarantee together; see `tckr.dp.trade_off`."""
    curve = trade_off(mechanisms(proven))
    return Limit(
        fpr=ROC_GRID,
        tpr=tuple(curve.tpr(ROC_GRID).tolist()),
        tpr_of_two=tuple(curve.twice.tpr(ROC_GRID).tolist()),
    )


def mechanisms(stated: Guarantee) -> list[Mechanism]:
    """Return what a guarantee says was spent."""
    fields = set(Mechanism.model_fields)
    return [Mechanism(**entry.model_dump(include=fields)) for entry in stated.entries]


def unit_of(audit: Audit) -> Literal["image", "person"]:
    """Return whose membership was attacked: a person's where the source says which images are of one."""
    models = [thing for thing in audit.things.values() if isinstance(thing, ModelAudit)]
    return "person" if any(m.primary.auc.n_clusters is not None for m in models) else "image"


def accuracy_interval(percent: float, n_test: int, confidence: float) -> Interval:
    """Return an accuracy as a share, with its Clopper-Pearson interval.

    >>> found = accuracy_interval(90.0, n_test=100, confidence=0.95)
    >>> found.value, round(found.low, 3), round(found.high, 3)
    (0.9, 0.824, 0.951)
    """
    low, high = clopper_pearson(round(percent / 100 * n_test), n_test, confidence)
    return Interval(
        value=percent / 100, low=low, high=high, confidence=confidence, method="Clopper-Pearson"
    )
