"""The figures of an audit as a certificate repeats them: one row for each thing that was attacked."""

from typing import Literal

from pydantic import Field

from tckr.audit.attack_results import AttackResult, Auc, Group, Interval, Result, Roc, Tpr
from tckr.audit.results import Audit
from tckr.audit.things import THINGS, ModelAudit


class Attack(Result):
    """One attacker against one thing."""

    name: str = Field(description="of the attack")
    label: str = Field(description="the attack in words")
    primary: bool = Field(
        description="whether it was named before the run, so that its figures are the headline"
    )
    auc: Auc = Field(description="area under its ROC curve")
    tpr: Tpr = Field(
        description="share of the members that it finds at the headline false-positive rate"
    )
    epsilon: float | None = Field(
        description="no smaller epsilon can hold, at the attack's confidence; None: no bound"
    )
    aop: float | None = Field(description="accuracy over privacy; None of what is no classifier")


class Row(Result):
    """One thing, and everybody who attacked it."""

    thing: str = Field(description="its name in `tckr.audit.things.THINGS`")
    title: str = Field(description="the thing in words")
    attacker: str = Field(description="what the attacker holds")
    goes: bool = Field(
        description="whether it is part of the release; else it stands for reference"
    )
    shows: Literal["both", "leaks", "nothing"] = Field(description="what the figures can show")
    limits: str = Field(description="why they do not show both; else empty")
    scope: str = Field(description="what each shadow repeated, in words; empty without shadows")
    n_members: int = Field(description="members that were attacked")
    n_non_members: int = Field(description="others beside them")
    n_shadows: int = Field(description="shadow models behind the attacks")
    accuracy: float | None = Field(
        description="of the thing on the test images, percent; None of what is no classifier"
    )
    attacks: tuple[Attack, ...] = Field(min_length=1, description="the primary attack first")
    roc: Roc | None = Field(description="of the primary attack; None in an older audit")
    groups: tuple[Group, ...] = Field(description="the most exposed images, and every class")
    recipe: Interval | None = Field(
        description="AUC to expect of a further run; None: too few shadows"
    )
    canaries: float | None = Field(
        description="lower bound of epsilon from mislabelled images; None: none were planted"
    )

    @property
    def primary(self) -> Attack:
        """Return the attack of record."""
        return next(attack for attack in self.attacks if attack.primary)

    @property
    def worst_group(self) -> Group | None:
        """Return the group with the largest upper limit of its AUC; None without groups."""
        return max(self.groups, key=lambda group: group.auc.high, default=None)

    @property
    def epsilon(self) -> float | None:
        """Return the largest lower bound of epsilon that any attack shows; None without one."""
        bounds = [self.canaries, *(attack.epsilon for attack in self.attacks)]
        return max((bound for bound in bounds if bound is not None), default=None)


def rows(audit: Audit, goes: frozenset[str]) -> dict[str, Row]:
    """Return the row of everything that was attacked, in the order of `THINGS`.

    Args:
        audit: of the run.
        goes: names of the things that are part of the release.
    """
    found = {}
    for name in (name for name in THINGS if name in audit.things):
        thing, about = audit.things[name], audit.about(name)
        model = thing if isinstance(thing, ModelAudit) else None
        accuracy = None if model is None else model.accuracy
        ordered = sorted(thing.attacks.values(), key=lambda one: one.name != thing.primary_attack)
        canaries = None if model is None or model.canaries is None else model.canaries.one_run
        found[name] = Row(
            thing=name,
            title=about.title,
            attacker=about.attacker,
            goes=name in goes,
            shows=thing.shows,
            limits=thing.limits,
            scope="" if model is None else model.scope_note,
            n_members=thing.n_members,
            n_non_members=thing.n_non_members,
            n_shadows=thing.n_shadows,
            accuracy=accuracy,
            attacks=tuple(_attack(one, thing.primary_attack, accuracy) for one in ordered),
            roc=thing.roc,
            groups=thing.groups,
            recipe=None
            if model is None or model.recipe is None
            else Interval(**model.recipe.attack.auc.model_dump(include=set(Interval.model_fields))),
            canaries=None if canaries is None else canaries.value,
        )
    return found


def aop(accuracy: float, auc: Auc) -> float | None:
    """Return accuracy over privacy of a classifier, from its accuracy in percent and the attack's AUC."""
    from tckr.metrics import Estimate, accuracy_over_privacy

    measured = Estimate(auc.value, auc.low, auc.high, auc.confidence, auc.method)
    return accuracy_over_privacy(accuracy, measured).value


def _attack(found: AttackResult, primary: str, accuracy: float | None) -> Attack:
    return Attack(
        name=found.name,
        label=found.label,
        primary=found.name == primary,
        auc=found.auc,
        tpr=found.tpr,
        epsilon=None if found.epsilon is None else found.epsilon.value,
        aop=None if accuracy is None else aop(accuracy, found.auc),
    )
