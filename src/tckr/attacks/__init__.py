"""Membership attacks as pure functions of arrays: larger score = more likely a member.

Everywhere `target` is float64 (N,), the logit-scaled confidences of the audited model (see
`signals.logit_scaled`), `shadow` (S, N) those of the shadows, and `membership` bool (S, N) says
which examples each shadow was trained on. With Q queries an example (augmented views) they are
(N, Q), (S, N, Q) and (S, N). Each attack returns float64 (N,).
"""

from tckr.attacks.arrays import Variance
from tckr.attacks.bavaria import bavaria_t
from tckr.attacks.lira import lira
from tckr.attacks.paper_compat import paper_compat, paper_compat_score
from tckr.attacks.qmia import qmia
from tckr.attacks.rmia import rmia
from tckr.attacks.threshold import threshold

__all__ = [
    "Variance",
    "bavaria_t",
    "lira",
    "paper_compat",
    "paper_compat_score",
    "qmia",
    "rmia",
    "threshold",
]
