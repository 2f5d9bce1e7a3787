"""Statistics of an attack as pure functions: each is an estimate with its interval.

`scores` are float (N,), larger = more likely a member; `is_member` bool (N,). Intervals hold for
examples drawn independently of one another; where one example has several scores (over shadows),
`clusters` int (N,) names the example of each score and the interval is a cluster bootstrap's.
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
from tckr.metrics.rates import ppv, roc, tpr_at_fpr
from tckr.metrics.roc_auc import accuracy_over_privacy, auc, no_leak

__all__ = [
    "FEWEST_FALSE_POSITIVES",
    "AucEstimate",
    "Estimate",
    "PpvEstimate",
    "RateEstimate",
    "TprEstimate",
    "accuracy_over_privacy",
    "auc",
    "clopper_pearson",
    "epsilon_lower_bound",
    "epsilon_one_run",
    "no_leak",
    "one_run_bound",
    "ppv",
    "roc",
    "tpr_at_fpr",
]
