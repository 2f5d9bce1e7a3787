"""Accuracy over privacy: the papers' one figure for what a model can do and what it gives away."""

from tckr.membership.statistics.estimate import Estimate, clopper_pearson


def accuracy_over_privacy(
    accuracy_percent: float, auc_mia: float | Estimate, n_test: int | None = None
) -> Estimate:
    """AOP = accuracy / max(2 AUC_MIA, 1)^2 (Lomurno et al., arXiv 2306.03054; lambda = 2 as TCKR).

    The interval is that of the AUC carried through the formula, the accuracy taken as measured.
    With `n_test` the accuracy has its own interval too (Clopper-Pearson, at the confidence of the
    AUC); both hold together at the confidence that Bonferroni's inequality leaves (95 % each: 90 %
    together), which is the one stated.

    Args:
        accuracy_percent: 0..100.
        auc_mia: in [0, 1]; an estimate gives the result its interval, a plain number none.
        n_test: images on which the accuracy was measured; needs `auc_mia` as an estimate.

    Raises:
        ValueError: a figure out of range, for instance an AUC in percent; `n_test` beside a plain
            number.
    """
    if not isinstance(auc_mia, Estimate):
        if n_test is not None:
            raise ValueError("n_test needs auc_mia as an estimate, which states the confidence")
        auc_mia = Estimate(auc_mia, auc_mia, auc_mia, 1.0, "AUC taken as exact")
    if not 0 <= accuracy_percent <= 100 or not 0 <= auc_mia.value <= 1:
        raise ValueError(
            f"accuracy {accuracy_percent} must lie in 0..100 and AUC {auc_mia.value} in 0..1"
        )
    worst = best = accuracy_percent
    confidence, method = auc_mia.confidence, f"from the AUC: {auc_mia.method}"
    if n_test is not None:
        right = round(accuracy_percent / 100 * n_test)
        worst, best = (100 * end for end in clopper_pearson(right, n_test, confidence))
        confidence = 1 - 2 * (1 - confidence)
        method += "; from the accuracy: Clopper-Pearson; together by Bonferroni"
    value, low, high = (
        accuracy / max(2 * area, 1) ** 2
        for accuracy, area in (
            (accuracy_percent, auc_mia.value),
            (worst, auc_mia.high),
            (best, auc_mia.low),
        )
    )
    return Estimate(value, low, high, confidence, method)
