"""The attacks by the names that the configuration and the report use."""

from numpy.typing import ArrayLike

from tckr.attacks.arrays import Floats, Variance
from tckr.attacks.bavaria import bavaria_t
from tckr.attacks.lira import lira
from tckr.attacks.paper_compat import paper_compat_score
from tckr.attacks.qmia import qmia
from tckr.attacks.rmia import rmia
from tckr.attacks.threshold import threshold
from tckr.errors import UserError

NAMES: dict[str, str] = {
    "threshold": "Global threshold on the confidence (no shadows)",
    "lira_online": "LiRA, online: Gaussians with and without the example",
    "lira_offline": "LiRA, offline: Gaussian without the example, one-sided",
    "rmia": "RMIA: confidence against the shadows', ranked among a population",
    "bavaria_t": "BaVarIA-t, online: LiRA with a prior on mean and variance",
    "bavaria_t_offline": "BaVarIA-t, offline: the same without the example, one-sided",
    "qmia": "QMIA: confidence against that expected from the image (no shadows)",
    "paper_compat": "TCKR notebook's scoring: not a LiRA, for comparison only",
}


def scores(
    name: str,
    target: ArrayLike,
    shadow: ArrayLike,
    membership: ArrayLike,
    *,
    variance: Variance,
    features: ArrayLike | None = None,
    reference: ArrayLike | None = None,
) -> Floats:
    """Scores (N,) of the named attack.

    Args:
        name: one of `NAMES`.
        target: (N,), or (N, Q).
        shadow: (S, N), or (S, N, Q); not read by `threshold` and `qmia`.
        membership: (S, N); likewise.
        variance: of the two LiRAs.
        features: (N, D), for `qmia`.
        reference: bool (N,), known non-members, for `qmia`.

    Raises:
        UserError: what the attack raises; an unknown name; `qmia` without features or reference.
    """
    arrays = target, shadow, membership
    match name:
        case "threshold":
            return threshold(target)
        case "lira_online" | "lira_offline":
            return lira(*arrays, name == "lira_online", variance)
        case "rmia":
            return rmia(*arrays)
        case "bavaria_t" | "bavaria_t_offline":
            return bavaria_t(*arrays, name == "bavaria_t")
        case "paper_compat":
            return paper_compat_score(*arrays)
        case "qmia" if features is not None and reference is not None:
            return qmia(target, features, reference)
        case "qmia":
            raise UserError(
                "The attack qmia needs features of the images and known non-members.",
                "give both, or leave qmia out.",
            )
    raise UserError(f"There is no attack {name!r}.", f"choose one of {', '.join(NAMES)}.")
