"""Statistics of an attack as pure functions: each is an estimate with its interval.

`scores` are float (N,), larger = more likely a member; `is_member` bool (N,). Intervals hold for
examples drawn independently of one another; where one example has several scores (over shadows),
`clusters` int (N,) names the example of each score and the interval is a cluster bootstrap's.
"""

from tckr.membership.statistics.aop import accuracy_over_privacy
from tckr.membership.statistics.area import auc, no_leak
from tckr.membership.statistics.epsilon import epsilon_lower_bound
from tckr.membership.statistics.estimate import (
    FEWEST_FALSE_POSITIVES,
    AucEstimate,
    Estimate,
    PpvEstimate,
    RateEstimate,
    TprEstimate,
    clopper_pearson,
)
from tckr.membership.statistics.one_run import epsilon_one_run, one_run_bound
from tckr.membership.statistics.rates import ppv, roc, tpr_at_fpr

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
