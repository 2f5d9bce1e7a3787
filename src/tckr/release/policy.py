"""What a release is held to, and the clauses of it that hold or do not.

A clause compares one limit of the policy with one figure of the certificate, so that whoever has the certificate can
judge again: `clauses` is what stops a release, and what verifies it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from tckr.audit.attack_results import Result
from tckr.audit.proven import Guarantee
from tckr.audit.results import Audit
from tckr.errors import UserError
from tckr.options import Options
from tckr.release.rows import Row

Kind = Literal["recycled_set", "prompts", "student", "adapter", "teacher"]

TITLES: dict[Kind, str] = {
    "recycled_set": "recycled set (images and labels)",
    "prompts": "prompts of the recycled set",
    "student": "student (weights and configuration)",
    "adapter": "adapter of the generator",
    "teacher": "private teacher",
}
# The rows of the audit that attack a thing; the first is the row of record, without which its leak is not measured.
ATTACKED: dict[Kind, tuple[str, ...]] = {
    "recycled_set": ("released", "images"),
    "prompts": ("prompts",),
    "student": ("weights", "student", "joint"),
    "adapter": ("generator",),
    "teacher": ("teacher",),
}


class Policy(Options):
    """Limits of a release; a limit that is null is none."""

    things: tuple[Kind, ...] = Field(min_length=1, description="what may go, if it is there")
    largest_epsilon: float | None = Field(
        gt=0, description="of the ledger; with it, what has no formal guarantee does not go"
    )
    largest_auc: float | None = Field(
        ge=0.5, le=1, description="upper limit of AUC_MIA of anything that goes, a share"
    )
    largest_group_auc: float | None = Field(
        ge=0.5, le=1, description="the same of the worst-exposed group or class, a share"
    )
    least_accuracy: float | None = Field(ge=0, le=100, description="of the student, percent")
    unmeasured: bool = Field(
        description="whether a thing may go whose leak was neither measured nor bounded"
    )


class Policies(Options):
    """The policies that there are, and which one is in force."""

    of_today: ClassVar[bool] = True  # an earlier run was held to its own

    use: str = Field(description="name of the policy in force")
    policies: dict[str, Policy] = Field(description="policies by name")

    @property
    def chosen(self) -> Policy:
        """Return the policy in force."""
        return self.policies[self.use]

    @model_validator(mode="after")
    def _is_there(self) -> Self:
        if self.use not in self.policies:
            raise ValueError(
                f"There is no policy {self.use}, there are {', '.join(self.policies)}; conf/local/policy.yml may name more"
            )
        return self


class Clause(Result):
    """One limit of a policy beside what a release has."""

    name: str = Field(description="the policy's field")
    limit: float | None = Field(description="of the policy; None: no limit")
    found: float | None = Field(description="of the release; None: not measured, or not proven")
    holds: bool = Field(description="whether the release keeps it")
    text: str = Field(description="the comparison, in words")


def clauses(
    policy: Policy,
    things: Sequence[Kind],
    rows: Mapping[str, Row],
    proven: Guarantee | None,
    accuracy: float | None,
) -> tuple[Clause, ...]:
    """Compare every limit of a policy with what a release has.

    Args:
        policy: in force.
        things: what would go.
        rows: of the audit, by name in `tckr.audit.things.THINGS`.
        proven: what a ledger proves of all of it; None: nothing.
        accuracy: of the student, percent.
    """
    return (
        _epsilon(policy, proven),
        _measured(policy, things, rows, proven),
        _auc(policy, things, rows, proven),
        _group(policy, things, rows, proven),
        _accuracy(policy, accuracy),
    )


def upper_aucs(
    things: Sequence[Kind], rows: Mapping[str, Row], proven: Guarantee | None
) -> dict[str, float]:
    """Return `upper_auc` of every row of what goes that measured anything, by the row's name."""
    return {row.thing: upper_auc(row, proven) for row in _rows_of(things, rows)}


def upper_auc(row: Row, proven: Guarantee | None) -> float:
    """Return the largest AUC that an attack on a thing is known to have, or not excluded from having, in [0.5, 1].

    It is the upper end of the primary attack's interval (of an attack the wrong way round, of the same turned), or the
    lower end of another attack's where that is more; whatever was measured, no attack passes what a ledger proves.
    """
    auc = row.primary.auc
    turned = 1 - auc.low if auc.high < 0.5 else auc.high
    found = [0.5, turned, *(one.auc.low for one in row.attacks)]
    return min(max(found), 1.0 if proven is None else max(proven.auc, 0.5))


def check(name: str, found: Sequence[Clause]) -> None:
    """Check that every clause holds.

    Raises:
        UserError: one does not; names the first.
    """
    broken = next((clause for clause in found if not clause.holds), None)
    if broken is not None:
        raise UserError(
            f"The release breaks the policy {name}, clause {broken.name}: {broken.text}. Nothing was written.",
            "release less (policy.policies.<name>.things), make another run, or have the policy changed by whoever is"
            " responsible for it.",
        )


def reason_to_withhold(thing: Kind, policy: Policy, audit: Audit) -> str:  # noqa: PLR0911
    """Return why a thing does not go, in words; empty if it may.

    What was trained on, or repeats, private images needs more than the policy's word: a teacher the ledger, an adapter
    and prompts a row of the audit that can show that they leak no more than the policy allows.
    """
    from tckr.audit.threats import FEWEST_ASKED
    from tckr.release.rows import rows

    if thing not in policy.things:
        return "the policy does not let it go"
    if thing == "teacher":
        return (
            ""
            if audit.proven is not None
            else "it was trained on private images, without a guarantee"
        )
    if thing not in ("adapter", "prompts") or audit.proven is not None:
        return ""
    record = ATTACKED[thing][0]
    row = rows(audit, frozenset()).get(record)
    if row is None or row.shows != "both":
        return "its leak was not measured" + (f": {row.limits}" if row is not None else "")
    if thing == "adapter" and row.n_members < FEWEST_ASKED:
        return f"it was attacked with {row.n_members:,} members, and {FEWEST_ASKED:,} are needed to see a small leak"
    worst, of_group = row.worst_group, policy.largest_group_auc
    if worst is not None and of_group is not None and worst.auc.high > of_group:
        return (
            f"the AUC of its {worst.name} images may be up to {100 * worst.auc.high:.1f} %, and the policy allows"
            f" {100 * of_group:.1f} %"
        )
    limit = policy.largest_auc
    if limit is not None and (upper := upper_auc(row, None)) > limit:
        return (
            f"its AUC may be up to {100 * upper:.1f} %, and the policy allows {100 * limit:.1f} %"
        )
    return ""


def _epsilon(policy: Policy, proven: Guarantee | None) -> Clause:
    limit = policy.largest_epsilon
    found = None if proven is None else proven.epsilon
    has = (
        "there is no formal guarantee"
        if proven is None
        else f"epsilon is {proven.epsilon:.4g} at delta {proven.delta:.2g}"
    )
    asked = "none is asked for" if limit is None else f"at most {limit:g} is allowed"
    return Clause(
        name="largest_epsilon",
        limit=limit,
        found=found,
        holds=limit is None or (found is not None and found <= limit),
        text=f"{has}, {asked}",
    )


def _measured(
    policy: Policy, things: Sequence[Kind], rows: Mapping[str, Row], proven: Guarantee | None
) -> Clause:
    missing = [
        TITLES[thing]
        for thing in things
        if (record := rows.get(ATTACKED[thing][0])) is None or record.shows != "both"
    ]
    text = (
        f"not measured: {', '.join(missing)}"
        if missing
        else "the leak of everything that goes was measured"
    )
    if missing and proven is not None:
        text += ", but the ledger bounds it"
    return Clause(
        name="unmeasured",
        limit=None,
        found=None,
        holds=policy.unmeasured or not missing or proven is not None,
        text=text,
    )


def _auc(
    policy: Policy, things: Sequence[Kind], rows: Mapping[str, Row], proven: Guarantee | None
) -> Clause:
    uppers = {rows[name].title: upper for name, upper in upper_aucs(things, rows, proven).items()}
    return _compared("largest_auc", policy.largest_auc, uppers, policy.unmeasured, proven)


def _group(
    policy: Policy, things: Sequence[Kind], rows: Mapping[str, Row], proven: Guarantee | None
) -> Clause:
    most = 1.0 if proven is None else proven.auc
    uppers = {
        f"{group.name}, of: {row.title}": min(group.auc.high, most)
        for row in _rows_of(things, rows)
        for group in row.groups
    }
    return _compared(
        "largest_group_auc", policy.largest_group_auc, uppers, policy.unmeasured, proven
    )


def _compared(
    name: str,
    limit: float | None,
    uppers: Mapping[str, float],
    unmeasured: bool,
    proven: Guarantee | None,
) -> Clause:
    worst = max(uppers, key=uppers.__getitem__, default=None)
    asked = "no limit is set" if limit is None else f"at most {100 * limit:.1f} % is allowed"
    if worst is None:
        bound = None if proven is None else proven.auc
        has = "no AUC was measured" + (
            "" if bound is None else f", the ledger proves at most {100 * bound:.1f} %"
        )
        # With nothing to compare, a limit is kept by a proof alone, or by whoever lets unmeasured things go.
        holds = limit is None or unmeasured or (bound is not None and bound <= limit)
        return Clause(name=name, limit=limit, found=bound, holds=holds, text=f"{has}, {asked}")
    found = uppers[worst]
    return Clause(
        name=name,
        limit=limit,
        found=found,
        holds=limit is None or found <= limit,
        text=f"AUC up to {100 * found:.1f} % ({worst}), {asked}",
    )


def _accuracy(policy: Policy, accuracy: float | None) -> Clause:
    limit = policy.least_accuracy
    has = "not measured" if accuracy is None else f"{accuracy:.1f} %"
    asked = "no limit is set" if limit is None else f"at least {limit:g} % is asked for"
    return Clause(
        name="least_accuracy",
        limit=limit,
        found=accuracy,
        holds=limit is None or (accuracy is not None and accuracy >= limit),
        text=f"the student's accuracy is {has}, {asked}",
    )


def _rows_of(things: Sequence[Kind], rows: Mapping[str, Row]) -> Iterator[Row]:
    """Yield the rows of what goes, but for those whose figures the design fixes: these show nothing."""
    for name in (name for thing in things for name in ATTACKED[thing] if name in rows):
        if rows[name].shows != "nothing":
            yield rows[name]
