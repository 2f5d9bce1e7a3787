"""Membership inference attacks as pure functions of arrays; a larger score = more likely a member.

`target_scores` float (N,) are the logit-scaled confidences phi = log(p_y / (1 - p_y)) of the audited
model in N examples, `shadow_scores` (S, N) those of S shadow models, and `membership` bool (S, N)
says which examples each shadow was trained on. With Q queries per example (augmented views) the
shapes are (N, Q), (S, N, Q) and (S, N). Each attack returns float64 (N,).

Auditing a model of one's own takes arrays and two imports. Here 8 shadows and the target remember
half of 400 examples each, by 1.5 standard deviations:

>>> import numpy as np
>>> from tckr.attacks import lira, rmia
>>> from tckr.metrics import auc, tpr_at_fpr
>>> random = np.random.default_rng(0)
>>> membership = random.permuted(np.arange(8)[:, None] < np.full(400, 4), axis=0)
>>> is_member = np.arange(400) < 200
>>> shadow_scores = random.normal(3 + 1.5 * membership)
>>> target_scores = random.normal(3 + 1.5 * is_member)
>>> scores = rmia(target_scores, shadow_scores, membership)
>>> auc(scores, is_member).low > 0.5
True
>>> scores = lira(target_scores, shadow_scores, membership, variance="global")
>>> tpr_at_fpr(scores, is_member, 0.1).value > 0.1
True
"""

from tckr.attacks.arrays import Variance
from tckr.attacks.bavaria import bavaria_t
from tckr.attacks.fusion import Fused, fuse
from tckr.attacks.lira import lira
from tckr.attacks.paper_compat import paper_compat, paper_compat_score
from tckr.attacks.qmia import qmia
from tckr.attacks.registry import ATTACKS, Attack
from tckr.attacks.rmia import rmia
from tckr.attacks.threshold import threshold

__all__ = [
    "ATTACKS",
    "Attack",
    "Fused",
    "Variance",
    "bavaria_t",
    "fuse",
    "lira",
    "paper_compat",
    "paper_compat_score",
    "qmia",
    "rmia",
    "threshold",
]
