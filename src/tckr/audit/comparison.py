"""Several arms beside each other: a row for each, and the sentences without which the table would mislead.

All arms work on one split with one audit, so that a row differs from another by its arm alone.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from tckr.audit.results import Audit
from tckr.dp import Ledger
from tckr.dp.accounting import gaussian_mu, mu, total_epsilon
from tckr.metrics import accuracy_over_privacy

# The row for reference: the network that was trained on the private images themselves, which arms without differential
# privacy share.
TEACHER = "teacher"


@dataclass(frozen=True)
class ArmResult:
    """What is known of one arm.

    Attributes:
        arm: its name.
        audit: of what it would release.
        seconds: of all work behind the audit, with what the arm shares with others.
        ledger: of its mechanisms, all run; None if it has none.
    """

    arm: str
    audit: Audit
    seconds: float
    ledger: Ledger | None = None

    @property
    def proven(self) -> Ledger | None:
        """The ledger, if it protects anybody: not if its noise came from a seed, or something was taken uncharged."""
        return self.ledger if self.ledger is not None and self.ledger.private else None


def compare(arms: Sequence[ArmResult], teacher_seconds: float = 0.0) -> pd.DataFrame:
    """Return one row per arm, after the row of the teacher that arms without differential privacy share.

    Args:
        arms: in the order of the rows.
        teacher_seconds: of all work behind the teacher.

    Returns:
        `arm`, `epsilon` (infinity where nothing is proven), `delta` and `mu` (NaN there); of the student `accuracy`,
        `AUC_MIA` and `AOP` with `_low` and `_high`, `AUC_MIA_bound`, the largest AUC of any attack, and `aop_certified`,
        the AOP at that bound, all in percent; `minutes` and `shadows`.
    """
    shared = next((one for one in arms if one.ledger is None and TEACHER in one.audit.models), None)
    rows = [] if shared is None else [_row(shared, TEACHER, teacher_seconds)]
    return pd.DataFrame([*rows, *(_row(one, "student", one.seconds) for one in arms)])


def _row(result: ArmResult, model: str, seconds: float) -> dict[str, object]:
    audited, ledger = result.audit.models[model], result.proven
    figures = audited.in_percent()
    bound = 1.0 if ledger is None else ledger.trade_off().auc
    return {
        "arm": model if model == TEACHER else result.arm,
        "epsilon": math.inf if ledger is None else ledger.epsilon(),
        "delta": math.nan if ledger is None else ledger.delta,
        "mu": math.nan if ledger is None else ledger.mu(),
        "accuracy": audited.accuracy,
        **{f"AUC_MIA{end}": figures[f"AUC_MIA{end}"] for end in ("", "_low", "_high")},
        "AUC_MIA_bound": 100 * bound,
        **{f"AOP{end}": figures[f"AOP{end}"] for end in ("", "_low", "_high")},
        "aop_certified": accuracy_over_privacy(audited.accuracy, bound).value,
        "minutes": seconds / 60,
        "shadows": audited.n_shadows,
    }


def remarks(arms: Sequence[ArmResult]) -> list[str]:
    """Return what has to be said below the table, a sentence or two each."""
    return list(_remarks(arms))


def _remarks(arms: Sequence[ArmResult]) -> Iterator[str]:
    proven = {one.arm: one.proven for one in arms if one.proven is not None}
    without = [one.arm for one in arms if one.proven is None]
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
        if one.ledger is not None and one.proven is None:
            yield f"{one.arm}: its noise came from a seed, or it read private images for research: it proves nothing."
    shadows = {one.arm: one.audit.models["student"].n_shadows for one in arms}
    if len(set(shadows.values())) > 1:
        counts = ", ".join(f"{arm} {count}" for arm, count in shadows.items())
        yield f"The arms were attacked with different numbers of shadows ({counts}): their AUC_MIA do not compare."
    yield (
        "Minutes: all work behind an arm's audit. What arms share (reading the images, the teacher) is counted for each,"
        " and done once."
    )


def _together(ledgers: Mapping[str, Ledger]) -> str:
    """Say what is proven of several arms together: all of their mechanisms read the same images."""
    mechanisms = [entry for ledger in ledgers.values() for entry in ledger]
    delta = min(ledger.delta for ledger in ledgers.values())
    epsilon = total_epsilon(mechanisms, delta)
    exact = gaussian_mu(mechanisms)
    whole = mu(epsilon, delta) if exact is None else exact
    each = ", ".join(f"{arm} {ledger.mu():.2f}" for arm, ledger in ledgers.items())
    return (
        f"They read one private set, so what they spend adds up if all of {listed(ledgers)} is released: mu in squares"
        f" ({each}), together mu {whole:.2f}, which is epsilon {epsilon:.3g} at delta {delta:.2g}."
    )


def listed(names: Iterable[str]) -> str:
    """Join names as a sentence does.

    >>> listed(["tckr"]), listed(["tckr", "private", "unadapted"])
    ('tckr', 'tckr, private and unadapted')
    """
    each = list(names)
    return " and ".join([", ".join(each[:-1]), each[-1]]) if len(each) > 1 else each[0]
