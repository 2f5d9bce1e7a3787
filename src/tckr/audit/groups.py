"""Who is exposed: the attack's figures in the images that the shadows call most exposed, and in every class.

An average hides them. The groups are chosen by shadows and by class alone, and counted on the target, so that no figure is a
maximum over its own data.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from tckr import metrics
from tckr.audit.attack_results import Auc, Group, Interval
from tckr.audit.options import AuditOptions
from tckr.audit.vulnerability import vulnerability

EXPOSED = (0.01, 0.05)  # shares of the audited images, fixed beforehand
FEWEST = 10  # members, and others, of a group


def exposed_groups(
    values: NDArray[np.float64],
    is_member: NDArray[np.bool_],
    shadow_scores: NDArray[np.float64],
    membership: NDArray[np.bool_],
    options: AuditOptions,
    classes: NDArray[np.object_] | None = None,
    clusters: NDArray[np.int64] | None = None,
) -> tuple[Group, ...]:
    """Return the figures of the primary attack in the most exposed images and in every class.

    Args:
        values: (N,) scores of the primary attack on the target.
        is_member: bool (N,).
        shadow_scores: (S, N) or (S, N, Q).
        membership: bool (S, N).
        options: rates and confidence.
        classes: (N,) names; None: no figures by class.
        clusters: as for `evaluation.evaluate`.
    """
    separation = vulnerability(shadow_scores, membership)["separation"].to_numpy()
    order = np.argsort(-separation, kind="stable")
    fpr = options.fprs[0]
    others = np.sort(values[~is_member])
    # The threshold that lets at most this share of all non-members through, as in `metrics.tpr_at_fpr`.
    cut = float(others[-1 - math.floor(fpr * len(others) + 1e-9)])
    found = []
    for kind, name, rows in _groups(order, classes):
        inside = is_member[rows]
        if min(inside.sum(), (~inside).sum()) < FEWEST:
            continue
        own = None if clusters is None else clusters[rows]
        if own is not None and len(np.unique(own)) < 2:
            continue
        area = metrics.auc(values[rows], inside, options.confidence, own)
        rates = [_rate(values[rows][side] > cut, options, own) for side in (inside, ~inside)]
        found.append(
            Group(
                kind=kind,
                name=name,
                images=len(rows),
                auc=Auc(**asdict(area)),
                fpr=fpr,
                found=rates[0],
                false_alarms=rates[1],
            )
        )
    return tuple(found)


def _groups(
    order: NDArray[np.int64], classes: NDArray[np.object_] | None
) -> Iterator[tuple[str, str, NDArray[np.int64]]]:
    for share in EXPOSED:
        yield "exposed", f"{100 * share:g} % most exposed", order[: round(share * len(order))]
    if classes is not None:
        for name in dict.fromkeys(classes.tolist()):
            yield "class", str(name), np.flatnonzero(classes == name)


def _rate(
    called: NDArray[np.bool_], options: AuditOptions, clusters: NDArray[np.int64] | None
) -> Interval | None:
    """Return the share that is called a member; None where images of one person are not trials of their own."""
    if clusters is not None:
        return None
    low, high = metrics.clopper_pearson(int(called.sum()), len(called), options.confidence)
    return Interval(
        value=float(called.mean()),
        low=low,
        high=high,
        confidence=options.confidence,
        method="Clopper-Pearson at the threshold of all images",
    )
