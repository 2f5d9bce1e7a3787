"""What a ledger proves beside what the audit measured: the bounds, the comparison, and what follows from it.

The rule. Every attack gives one point: the smallest true-positive and the largest false-positive rate of its best cut,
on scores that did not choose the cut. All points of an audit hold together at `CONFIDENCE`, by Bonferroni's inequality
over the attacks. A point above the ledger's trade-off curve for two changes contradicts it, and the run fails; one
between that and the curve for one image is a warning: the audit's members and non-members are exact halves of one set,
so that where one image is absent another is present. Where members were drawn by coins (`membership.coin_flips`) there is
one change alone, and every point above the curve for one image contradicts it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from scipy.special import ndtri

from tckr import metrics
from tckr.audit.attack_results import AttackResult
from tckr.audit.proven import Charge, Compared, Declared, Guarantee, TprBound
from tckr.audit.results import Audit
from tckr.audit.things import THINGS, ModelAudit, ThingAudit
from tckr.dp.accounting import epsilon_of_mu, gaussian_mu, mu, total_epsilon
from tckr.dp.ledger import ADJACENCY, Ledger
from tckr.errors import UserError

# A run whose ledger is right fails, or is warned of, less often than once in a thousand.
CONFIDENCE = 0.999
CANARIES = "on the canaries"


def guarantee(
    ledger: Ledger,
    things: Mapping[str, ThingAudit],
    fprs: Sequence[float],
    *,
    changes: Literal[1, 2] = 2,
) -> Guarantee:
    """Return what a ledger proves, and how every attack of an audit compares.

    Args:
        ledger: of the arm, with everything that was charged.
        things: audits of what was made under the ledger, by name in `THINGS`.
        fprs: false-positive rates of the bounds.
        changes: images by which the case of a member differs from that of a non-member: 2 if members are exact halves; 1
            if each was drawn by a coin of its own, and nothing of the target follows from how many there are.

    >>> ledger = Ledger(1.0, delta=1e-5, n=3000, data_hash="4f2a")
    >>> _ = ledger.add(name="teacher", mechanism="gaussian", noise_multiplier=40, steps=100, why="clipped", code="doc")
    >>> found = guarantee(ledger, {}, fprs=(0.01,))
    >>> round(found.epsilon, 3), round(found.mu, 3), round(found.auc, 3), round(found.tprs[0].tpr, 4)
    (0.926, 0.25, 0.57, 0.0189)
    """
    curve = ledger.trade_off()
    twice = curve.twice
    points = list(_points(things))
    confidence = 1 - (1 - CONFIDENCE) / max(len(points), 1)
    compared = []
    for thing, attack, found in points:
        tpr, fpr = found.ends(confidence)
        bound, bound_of_two = float(curve.tpr(fpr)), float(twice.tpr(fpr))
        compared.append(
            Compared(
                thing=thing,
                attack=attack,
                fpr=fpr,
                tpr=tpr,
                bound=bound,
                bound_of_two=bound_of_two,
                epsilon=_epsilon(tpr, fpr, ledger.delta),
                epsilon_bound=_epsilon(bound, fpr, ledger.delta),
                epsilon_bound_of_two=_epsilon(bound_of_two, fpr, ledger.delta),
                changes=changes,
            )
        )
    return Guarantee(
        epsilon=ledger.epsilon(),
        delta=ledger.delta,
        mu=ledger.mu(),
        total_epsilon=ledger.total_epsilon,
        n=ledger.n,
        adjacency=ADJACENCY,
        private=ledger.private,
        auc=curve.auc,
        auc_of_two=twice.auc,
        tprs=tuple(
            TprBound(fpr=fpr, tpr=float(curve.tpr(fpr)), tpr_of_two=float(twice.tpr(fpr)))
            for fpr in fprs
        ),
        entries=_charges(ledger),
        declarations=tuple(Declared(**each.model_dump()) for each in ledger.declarations),
        confidence=CONFIDENCE,
        compared=tuple(compared),
    )


def check(audit: Audit) -> list[str]:
    """Check that no attack found more than is proven; return a warning for each that comes into doubt.

    Raises:
        UserError: an attack contradicts the ledger: it names the one that does so most.
    """
    found = audit.guarantee
    if found is None:
        return []
    wrong = [row for row in found.compared if row.contradicts]
    if wrong:
        row = max(wrong, key=lambda each: each.epsilon)
        raise UserError(
            f"The audit contradicts the ledger: {_measured(row, found)}, but the ledger proves at most"
            f" {row.epsilon_allowed:.2f} for the audit's comparison. Either the ledger or the code is wrong.",
            "hand out nothing that this run made; look for noise that is smaller, or a read of private images that is"
            " larger, than its entry says.",
        )
    return [
        f"The audit comes above what is proven for one image: {_measured(row, found)}, where"
        f" {row.epsilon_bound:.2f} is proven; its comparison of exact halves allows up to"
        f" {'any epsilon' if row.epsilon_bound_of_two is None else f'{row.epsilon_bound_of_two:.2f}'}. Check ledger and"
        " code before you release anything."
        for row in found.compared
        if row.alarming
    ]


def certified_aop(accuracy_percent: float, proven: Guarantee | None) -> float:
    """Return accuracy / max(2 AUC bound, 1)^2 in percent: the least AOP whatever the attack; without a proof AUC <= 1.

    >>> certified_aop(80.0, None)
    20.0
    """
    return metrics.accuracy_over_privacy(
        accuracy_percent, 1.0 if proven is None else proven.auc
    ).value


def _points(things: Mapping[str, ThingAudit]) -> Iterator[tuple[str, str, metrics.Separation]]:
    """Yield thing, attack and counts of every attack, those on the canaries alone included."""
    for name in (name for name in THINGS if name in things):
        thing = things[name]
        attacks: dict[str, AttackResult] = dict(thing.attacks)
        if isinstance(thing, ModelAudit) and thing.canaries is not None:
            attacks[f"{thing.primary_attack} {CANARIES}"] = thing.canaries.attack
        for attack, result in attacks.items():
            if result.separation is not None:
                yield name, attack, metrics.Separation(**result.separation.model_dump())


def _epsilon(tpr: float, fpr: float, delta: float) -> float:
    """Return the epsilon, at delta, of the Gaussian mechanism whose trade-off curve passes through a point."""
    if tpr <= fpr:
        return 0.0
    return epsilon_of_mu(float(ndtri(tpr) - ndtri(fpr)), delta)


def _charges(ledger: Ledger) -> tuple[Charge, ...]:
    squares = {
        entry.name: (gaussian_mu([entry]) or mu(total_epsilon([entry], ledger.delta), ledger.delta))
        ** 2
        for entry in ledger
    }
    whole = sum(squares.values())
    kept = set(Charge.model_fields) - {"share", "spent"}
    return tuple(
        Charge(
            **entry.model_dump(include=kept),
            share=squares[entry.name] / whole,
            spent=None if entry.spent is None else entry.spent.isoformat(timespec="seconds"),
        )
        for entry in ledger
    )


def _measured(row: Compared, found: Guarantee) -> str:
    return (
        f"{row.attack} against the {row.thing} shows epsilon of at least {row.epsilon:.2f} (delta {found.delta:.2g}; at"
        f" least {100 * row.tpr:.1f} % found at no more than {100 * row.fpr:.1f} % false alarms, {100 * found.confidence:g} %"
        " sure over all attacks)"
    )
