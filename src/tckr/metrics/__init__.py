"""Statistics of an attack as pure functions of arrays; each returns an estimate with its interval.

`scores` are float (N,), larger = more likely a member; `is_member` is bool (N,). Intervals hold for
examples drawn independently of one another; if one example has several scores (over shadows),
`clusters` int (N,) names the example of each score and the interval comes from a cluster bootstrap.

>>> import numpy as np
>>> from tckr.metrics import auc, ppv, tpr_at_fpr
>>> random, is_member = np.random.default_rng(0), np.arange(4000) < 2000
>>> scores = random.normal(size=4000) + is_member
>>> auc(scores, is_member).low > 0.5
True
>>> rate = tpr_at_fpr(scores, is_member, 0.01)
>>> rate.measurable, rate.value > 0.05, ppv(rate, prior=0.5).value > 0.8
(True, True, True)
"""

from tckr.metrics.epsilon import epsilon_lower_bound, epsilon_one_run, one_run_bound
from tckr.metrics.estimate import (
    FEWEST_FALSE_POSITIVES,
    AucEstimate,
    Estimate,
    PpvEstimate,
    RateEstimate,
    TprEstimate,
    clopper_pearson,
)
from tckr.metrics.extraction import Extracted, extraction
from tckr.metrics.rates import ROC_GRID, coarse_roc, ppv, roc, tpr_at_fpr
from tckr.metrics.roc_auc import accuracy_over_privacy, auc, covers_half
from tckr.metrics.runs import RunsAuc, auc_of_runs, tpr_of_runs
from tckr.metrics.separation import Separation, separation

__all__ = [
    "FEWEST_FALSE_POSITIVES",
    "ROC_GRID",
    "AucEstimate",
    "Estimate",
    "Extracted",
    "PpvEstimate",
    "RateEstimate",
    "RunsAuc",
    "Separation",
    "TprEstimate",
    "accuracy_over_privacy",
    "auc",
    "auc_of_runs",
    "clopper_pearson",
    "coarse_roc",
    "covers_half",
    "epsilon_lower_bound",
    "epsilon_one_run",
    "extraction",
    "one_run_bound",
    "ppv",
    "roc",
    "separation",
    "tpr_at_fpr",
    "tpr_of_runs",
]
