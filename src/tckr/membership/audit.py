"""The audit of one model: what its outputs tell about who was in its training set."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from tckr.membership import attacks, statistics
from tckr.membership.attacks import Variance
from tckr.membership.design import fingerprint
from tckr.options import Options

Attack = Literal["lira_online", "lira_offline", "threshold"]
Scope = Literal["classifier", "distillation"]

SCOPE_NOTES: dict[str, str] = {
    "classifier": "Each shadow retrains the classifier on another half of members and holdout.",
    "distillation": (
        "Each shadow retrains the teacher on another half of members and holdout, and the student"
        " from that teacher's labels. The released images and their captions are held fixed: what"
        " they themselves leak is not measured by this attack."
    ),
}


class AuditOptions(Options):
    """The audit, fixed before the run: nothing in it is chosen by its outcome."""

    n_shadows: int = Field(default=16, ge=4, le=4096, description="shadow groups; an even number")
    attack: Attack = Field(
        default="lira_online",
        description="attack of record: the one behind AUC_MIA; the threshold attack stands beside",
    )
    variance: Variance = Field(
        default="global",
        description="of LiRA: one for all examples (advised below 64 shadows), or one for each",
    )
    fpr: float = Field(default=0.01, gt=0, lt=1, description="false-positive rate of the TPR")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="of every interval")
    workers: int = Field(default=2, ge=1, description="shadow groups at once, one process each")

    @field_validator("n_shadows")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("must be even: every example is in half of the shadows")
        return value


def attack_scores(
    attack: Attack,
    target: NDArray[np.float64],
    shadow: NDArray[np.float64],
    membership: NDArray[np.bool_],
    variance: Variance,
) -> NDArray[np.float64]:
    """Scores (N,) of the named attack; arrays as in `attacks`."""
    if attack == "threshold":
        return attacks.threshold(target)
    return attacks.lira(target, shadow, membership, attack == "lira_online", variance)


def audit(
    target: NDArray[np.float64],
    shadow: NDArray[np.float64],
    membership: NDArray[np.bool_],
    is_member: NDArray[np.bool_],
    *,
    accuracy_percent: float,
    options: AuditOptions,
    scope: Scope,
) -> dict[str, Any]:
    """Attack one model and say how sure the answer is.

    Args:
        target: float64 (N,), logit-scaled confidences of the audited model.
        shadow: float64 (S, N), those of its shadows (of the same scope).
        membership: bool (S, N), training sets of the shadows.
        is_member: bool (N,), the real training set.
        accuracy_percent: of the model on the test split.
        options: names the attack of record.
        scope: what each shadow repeated.

    Returns:
        JSON-able: `scope` with its `scope_note`, the design, and under `attacks` for the attack of
        record and the global threshold their `auc`, `tpr` and `aop`, each with its interval;
        `auc`, `tpr` and `aop` at the top are those of the attack of record.
    """
    figures = {
        name: _figures(
            attack_scores(name, target, shadow, membership, options.variance),
            is_member,
            accuracy_percent,
            options,
        )
        for name in dict.fromkeys((options.attack, "threshold"))
    }
    return {
        "scope": scope,
        "scope_note": SCOPE_NOTES[scope],
        "attack_of_record": options.attack,
        "variance": None if options.attack == "threshold" else options.variance,
        "n_shadows": len(membership),
        "membership_hash": fingerprint(membership),
        "shadow_training_images": float(membership.sum(1).mean()),
        "n_members": int(is_member.sum()),
        "n_non_members": int((~is_member).sum()),
        "accuracy": accuracy_percent,
        **figures[options.attack],
        "attacks": figures,
    }


def _figures(
    scores: NDArray[np.float64],
    is_member: NDArray[np.bool_],
    accuracy_percent: float,
    options: AuditOptions,
) -> dict[str, Any]:
    area = statistics.auc(scores, is_member, options.confidence)
    rate = statistics.tpr_at_fpr(scores, is_member, options.fpr, options.confidence)
    aop = statistics.accuracy_over_privacy(accuracy_percent, area)
    return {"auc": area.to_dict(), "tpr": rate.to_dict(), "aop": aop.to_dict()}
