"""Rows of the report's tables: one per released thing, per attack, per model with canaries, per class."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tckr.audit.attack_results import AttackResult, Auc, Epsilon, Group, Interval, Ppv, Tpr
from tckr.audit.guarantee import certified_aop
from tckr.audit.results import Audit
from tckr.audit.things import (
    THINGS,
    Canaries,
    Exposure,
    Extraction,
    ModelAudit,
    Recipe,
    ThingAudit,
)
from tckr.release.certificate import accuracy_interval

MODELS = ("student", "teacher")
PRIOR = 0.1  # share of members among the queried examples, of the precision in the first table


class Verdict(NamedTuple):
    """What the primary attack says about one thing."""

    name: str
    title: str
    attacker: str
    attack: str
    auc: Auc
    tpr: Tpr
    ppv: Ppv | None
    epsilon: Epsilon | None
    verdict: str
    leaks: bool
    measured: bool
    auc_bound: float | None
    tpr_bound: float | None
    epsilon_bound: float | None


class AttackTable(NamedTuple):
    """All attacks on one thing, the primary attack first."""

    name: str
    title: str
    primary: str
    fprs: list[float]
    rows: list[AttackResult]
    n_members: int
    n_non_members: int
    limits: str
    auc_bound: float | None
    tpr_bounds: list[float] | None
    epsilon_bound: float | None
    aop_bound: float | None


class CanaryRow(NamedTuple):
    """A model that was audited with mislabelled images."""

    model: str
    canaries: Canaries


class DuplicatedRow(NamedTuple):
    """One thing, attacked on the duplicated canaries alone."""

    title: str
    exposure: Exposure
    verdict: str
    leaks: bool


class Copies(NamedTuple):
    """How many members the released images reproduce, and what that says, a sentence."""

    rows: tuple[Extraction, ...]
    finding: str
    found: bool


class ExposureTable(NamedTuple):
    """What an average hides of one thing: the recipe over its shadows, the most exposed images, every class."""

    name: str
    title: str
    primary: AttackResult
    recipe: Recipe | None
    groups: tuple[Group, ...]


class ClassRow(NamedTuple):
    """Accuracy of each model on one class; None if the class has no test image."""

    name: str
    models: dict[str, Interval | None]


def present(audit: Audit) -> dict[str, ThingAudit]:
    """Return the audits of the things that are there, in the order of `THINGS`."""
    return {name: audit.things[name] for name in THINGS if name in audit.things}


def verdicts(audit: Audit) -> list[Verdict]:
    """Return one row per thing, by its primary attack; bounds are None where nothing is proven."""
    proven = audit.proven
    tprs = {} if proven is None else {bound.fpr: bound.tpr for bound in proven.tprs}
    rows = []
    for name, thing in present(audit).items():
        found = thing.primary
        words, leaks = verdict(thing)
        rows.append(
            Verdict(
                name,
                *audit.about(name),
                found.label,
                found.auc,
                found.tpr,
                precision(found.tpr),
                found.epsilon,
                words,
                leaks,
                thing.shows != "nothing",
                None if proven is None else proven.auc,
                tprs.get(found.tpr.fpr),
                None if proven is None else proven.epsilon,
            )
        )
    return rows


def precision(tpr: Tpr) -> Ppv | None:
    """Return the precision at the prior nearest to `PRIOR`; None if the options name no prior."""
    return min(tpr.ppv, key=lambda ppv: abs(ppv.prior - PRIOR), default=None)


def verdict(thing: ThingAudit) -> tuple[str, bool]:
    """Return the verdict in words, and whether there is a leak: an AUC whose interval lies above one half, or below it."""
    found = thing.primary
    leaks = not found.covers_half and thing.shows != "nothing"
    if thing.shows == "nothing" or (thing.shows == "leaks" and not leaks):
        return f"not measured. {thing.limits}", leaks
    if found.covers_half:
        return "covers no leak: none shown, none ruled out", leaks
    if found.auc.low > 0.5:
        return "leaks: the interval lies above no leak", leaks
    turned = 100 * (1 - found.auc.value)
    return f"leaks, inverted: the attack the other way round has an AUC of {turned:.1f} %", leaks


def attacks(audit: Audit) -> list[AttackTable]:
    """Return one table per thing; bounds are None where nothing is proven."""
    proven = audit.proven
    tables = []
    for name, thing in present(audit).items():
        rows = sorted(thing.attacks.values(), key=lambda row: row.name != thing.primary_attack)
        tables.append(
            AttackTable(
                name,
                audit.about(name).title,
                thing.primary_attack,
                [tpr.fpr for tpr in thing.primary.tprs],
                rows,
                thing.n_members,
                thing.n_non_members,
                thing.limits,
                None if proven is None else proven.auc,
                None if proven is None else [bound.tpr for bound in proven.tprs],
                None if proven is None else proven.epsilon,
                None
                if proven is None or not isinstance(thing, ModelAudit) or thing.accuracy is None
                else certified_aop(thing.accuracy, proven),
            )
        )
    return tables


def canaries(audit: Audit) -> list[CanaryRow]:
    """Return one row per model that was audited with mislabelled images."""
    models = audit.models
    return [
        CanaryRow(name, found)
        for name in MODELS
        if name in models and (found := models[name].canaries) is not None
    ]


def duplicated(audit: Audit) -> list[DuplicatedRow]:
    """Return one row per thing that was attacked on duplicated canaries, in the order of `THINGS`."""
    found = audit.duplicated
    if found is None:
        return []
    rows = []
    for name in (name for name in THINGS if name in found.things):
        one = found.things[name]
        leaks = not one.attack.covers_half
        words = "covers no leak: none shown, none ruled out"
        if leaks and one.attack.auc.low > 0.5:
            words = "leaks: the interval lies above no leak"
        elif leaks:
            words = "leaks, inverted"
        rows.append(DuplicatedRow(audit.about(name).title, one, words, leaks))
    return rows


def copies(rows: tuple[Extraction, ...]) -> Copies | None:
    """Return what is known of reproduced members; None if nothing was counted."""
    if not rows:
        return None
    worst = max(rows, key=lambda row: (row.at_least, -row.p_value))
    where = {"pixels": "in pixels", "encoder": "to the image encoder"}[worst.space]
    if worst.at_least:
        finding = (
            f"The release reproduces members: {worst.near_members:,} of {worst.n_members:,} have a released image nearer"
            f" {where} than {_all_but(worst)}, where about {worst.chance:.0f} would by chance. At least"
            f" {worst.at_least:,} of them are no chance ({100 * worst.confidence:g} % sure)."
        )
        return Copies(rows, finding, True)
    nearest = min(rows, key=lambda row: row.share)
    finding = (
        "No member was shown to be reproduced: chance explains how near the released images come to members, judging by the"
        f" holdout, which they cannot know. Copies of {nearest.needed - 1:,} members or fewer could have gone unnoticed, and of"
        " more if a holdout image happens to lie as near."
    )
    return Copies(rows, finding, False)


def _all_but(row: Extraction) -> str:
    if not row.near_holdout:
        return f"any of the {row.n_holdout:,} holdout images"
    return f"all but {row.near_holdout:,} of the {row.n_holdout:,} holdout images"


def exposure(audit: Audit) -> list[ExposureTable]:
    """Return one table per thing that was measured with shadows."""
    return [
        ExposureTable(name, audit.about(name).title, found.primary, recipe, found.groups)
        for name, found in present(audit).items()
        if (recipe := found.recipe if isinstance(found, ModelAudit) else None) or found.groups
    ]


def per_class(
    accuracy: Mapping[str, Any], counts: Mapping[str, int], confidence: float
) -> Iterator[ClassRow]:
    """Yield one row per class.

    Args:
        accuracy: `classes`, and for each model its `per_class` in percent.
        counts: test images by class.
        confidence: of the intervals.
    """
    models = [name for name in MODELS if name in accuracy]
    for place, name in enumerate(accuracy["classes"]):
        values = {model: accuracy[model]["per_class"][place] for model in models}
        yield ClassRow(
            name,
            {
                model: None if value is None else accuracy_interval(value, counts[name], confidence)
                for model, value in values.items()
            },
        )
