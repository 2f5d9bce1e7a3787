"""Several arms beside each other: a row for each, and the sentences without which the table would mislead.

All arms work on one split with one audit, so that a row differs from another by its arm alone.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from tckr.audit.guarantee import certified_aop
from tckr.audit.proven import Guarantee
from tckr.audit.results import Audit
from tckr.dp.accounting import Mechanism, gaussian_mu, mu, total_epsilon

# The row for reference: the network that was trained on the private images themselves, which arms without differential
# privacy share.
TEACHER, RELEASED = "teacher", "released"


@dataclass(frozen=True)
class ArmResult:
    """What is known of one arm.

    Attributes:
        arm: its name.
        audit: of what it would release, with what its ledger proves if it has one.
        seconds: of all work behind the audit, with what the arm shares with others.
    """

    arm: str
    audit: Audit
    seconds: float


def compare(arms: Sequence[ArmResult], teacher_seconds: float = 0.0) -> pd.DataFrame:
    """Return one row per arm, after the row of the teacher that arms without differential privacy share.

    Args:
        arms: in the order of the rows.
        teacher_seconds: of all work behind the teacher.

    Returns:
        `arm`, `epsilon` (infinity where nothing is proven), `delta` and `mu` (NaN there); of the student `accuracy`,
        `AUC_MIA` and `AOP` with `_low` and `_high`, `AUC_MIA_bound`, the largest AUC of any attack, and `aop_certified`,
        the AOP at that bound, all in percent, NaN where the audit does not measure them; `AUC_MIA_released`, of the attack on
        the recycled set as it is handed out; `minutes` and `shadows`.
    """
    shared = next(
        (one for one in arms if one.audit.guarantee is None and TEACHER in one.audit.models), None
    )
    rows = [] if shared is None else [_row(shared, TEACHER, teacher_seconds)]
    return pd.DataFrame([*rows, *(_row(one, "student", one.seconds) for one in arms)])


def _row(result: ArmResult, model: str, seconds: float) -> dict[str, object]:
    audited, proven = result.audit.models[model], result.audit.proven
    assert audited.accuracy is not None  # of student and teacher it is measured
    measured = audited.in_percent()
    figures = _or_nan(measured)
    released = result.audit.models.get(RELEASED) if model != TEACHER else None
    nothing = dict.fromkeys(measured, math.nan)
    of_set = nothing if released is None else _or_nan(released.in_percent())
    return {
        "arm": model if model == TEACHER else result.arm,
        "epsilon": math.inf if proven is None else proven.epsilon,
        "delta": math.nan if proven is None else proven.delta,
        "mu": math.nan if proven is None else proven.mu,
        "accuracy": audited.accuracy,
        **{f"AUC_MIA{end}": figures[f"AUC_MIA{end}"] for end in ("", "_low", "_high")},
        "AUC_MIA_bound": 100.0 if proven is None else 100 * proven.auc,
        **{f"AUC_MIA_released{end}": of_set.get(f"AUC_MIA{end}") for end in ("", "_low", "_high")},
        **{f"AOP{end}": figures[f"AOP{end}"] for end in ("", "_low", "_high")},
        "aop_certified": certified_aop(audited.accuracy, proven),
        "minutes": seconds / 60,
        "shadows": audited.n_shadows,
    }


def _or_nan(figures: Mapping[str, float | None]) -> dict[str, float]:
    return {name: math.nan if value is None else value for name, value in figures.items()}


def remarks(arms: Sequence[ArmResult]) -> list[str]:
    """Return what has to be said below the table, a sentence or two each."""
    return list(_remarks(arms))


def _remarks(arms: Sequence[ArmResult]) -> Iterator[str]:
    proven = {one.arm: one.audit.proven for one in arms if one.audit.proven is not None}
    without = [one.arm for one in arms if one.arm not in proven]
    if proven:
        yield (
            f"{listed(proven)}: no attack whatever exceeds the bound for one image; AUC_MIA is what this audit's attack"
            " found."
        )
    if len(proven) > 1:
        yield _together(proven)
    if without:
        yield (
            f"{listed(without)}: epsilon is infinity. Nothing is proven, so the bound is 100 % and the certified AOP a"
            " quarter of the accuracy."
        )
    if proven and without:
        yield (
            "All arms read one private set: whoever also releases what an arm without a proof made has no guarantee."
        )
    for one in arms:
        if one.audit.guarantee is not None and one.arm not in proven:
            yield f"{one.arm}: its noise came from a seed, or it read private images for research: it proves nothing."
    for one in arms:
        if (student := one.audit.models["student"]).shows == "nothing":
            yield f"{one.arm}: not measured. {student.limits}"
    shadows = {one.arm: one.audit.models["student"].n_shadows for one in arms}
    if len(set(shadows.values())) > 1:
        counts = ", ".join(f"{arm} {count}" for arm, count in shadows.items())
        yield f"The arms were attacked with different numbers of shadows ({counts}): their AUC_MIA do not compare."
    yield (
        "Minutes: all work behind an arm's audit. What arms share (reading the images, the teacher) is counted for each,"
        " and done once; what their audits share, for the first."
    )


def _together(proven: Mapping[str, Guarantee]) -> str:
    """Say what is proven of several arms together: all of their mechanisms read the same images."""
    kept = set(Mechanism.model_fields)
    mechanisms = [
        Mechanism(**entry.model_dump(include=kept))
        for each in proven.values()
        for entry in each.entries
    ]
    delta = min(each.delta for each in proven.values())
    epsilon = total_epsilon(mechanisms, delta)
    exact = gaussian_mu(mechanisms)
    whole = mu(epsilon, delta) if exact is None else exact
    spent = ", ".join(f"{arm} {each.mu:.2f}" for arm, each in proven.items())
    return (
        f"They read one private set, so what they spend adds up if all of {listed(proven)} is released: mu in squares"
        f" ({spent}), together mu {whole:.2f}, which is epsilon {epsilon:.3g} at delta {delta:.2g}."
    )


def listed(names: Iterable[str]) -> str:
    """Join names as a sentence does.

    >>> listed(["tckr"]), listed(["tckr", "private", "unadapted"])
    ('tckr', 'tckr, private and unadapted')
    """
    each = list(names)
    return " and ".join([", ".join(each[:-1]), each[-1]]) if len(each) > 1 else each[0]
