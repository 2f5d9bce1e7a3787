"""What all statistics share: exact intervals, JSON, and the inputs they refuse."""

import json

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from tckr import metrics
from tckr.errors import UserError
from tckr.metrics import (
    accuracy_over_privacy,
    auc,
    clopper_pearson,
    epsilon_lower_bound,
    one_run_bound,
    ppv,
    tpr_at_fpr,
)


@pytest.mark.parametrize("events", [0, 1, 17, 40])
def test_clopper_pearson_is_that_of_scipy(events: int):
    theirs = binomtest(events, 40).proportion_ci(0.9, method="exact")
    assert clopper_pearson(events, 40, 0.9) == pytest.approx((theirs.low, theirs.high))


@pytest.mark.parametrize("rate", [0.01, 0.2, 0.5])
def test_clopper_pearson_covers_exactly(rate: float):
    ends = [clopper_pearson(events, 50) for events in range(51)]
    covering = [low <= rate <= high for low, high in ends]
    assert binom.pmf(np.arange(51), 50, rate)[covering].sum() >= 0.95


def test_figures_are_json(shifted):
    scores, flags = shifted(np.random.default_rng(0), 1.0, 50, 50)
    clusters = np.arange(100) % 30
    figures = [
        auc(scores, flags),
        auc(scores, flags, clusters=clusters),
        tpr_at_fpr(scores, flags, 0.01),
        tpr_at_fpr(scores, flags, 0.2, clusters=clusters),
        ppv(tpr_at_fpr(scores, flags, 0.2), 0.1),
        accuracy_over_privacy(90, auc(scores, flags), 1000),
        epsilon_lower_bound(scores, flags, 1e-5),
        one_run_bound(scores, flags, 60, 1e-5),
    ]
    written = json.dumps([figure.to_dict() for figure in figures], allow_nan=False)
    assert [figure["confidence"] for figure in json.loads(written)] == pytest.approx(
        [0.95] * 5 + [0.9] + [0.95] * 2
    )


@pytest.mark.parametrize(
    "statistic",
    [
        auc,
        lambda s, m: auc(s, m, clusters=range(len(s))),
        lambda s, m: tpr_at_fpr(s, m, 0.1),
        lambda s, m: tpr_at_fpr(s, m, 0.1, clusters=range(len(s))),
        lambda s, m: epsilon_lower_bound(s, m, 0.1),
        lambda s, m: one_run_bound(s, m, 1, 0.1),
        metrics.roc,
    ],
)
def test_refuses(statistic):
    with pytest.raises(UserError, match="NaN"):
        statistic([1.0, np.nan], [True, False])
    with pytest.raises(UserError, match="0 non-members"):
        statistic([1.0, 2.0], [True, True])
    with pytest.raises(UserError, match="do not fit"):
        statistic([1.0, 2.0, 3.0], [True, False])
