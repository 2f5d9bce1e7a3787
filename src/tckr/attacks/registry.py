"""Registry of the membership attacks: names of the configuration, titles of the report, functions.

Adding an attack is one entry below. The configuration then accepts its name and the audit runs it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import ArrayLike

from tckr.attacks.arrays import Floats, Variance
from tckr.attacks.bavaria import bavaria_t
from tckr.attacks.lira import lira
from tckr.attacks.paper_compat import paper_compat_score
from tckr.attacks.qmia import qmia
from tckr.attacks.rmia import rmia
from tckr.attacks.threshold import threshold
from tckr.errors import UserError

SHADOWS = ("shadow_scores", "membership")


@dataclass(frozen=True)
class Attack:
    """One entry of the registry.

    Attributes:
        name: in configuration and report.
        title: one line of the report's table.
        function: called with the target scores and with what it needs, by name.
        needs: of `shadow_scores`, `membership`, `variance`, `features` (of the images) and
            `reference` (known non-members), those that are arguments of `function`.
        settings: its further arguments, fixed for this name.
        comparison_only: kept to compare with published figures; never stands in for another.
    """

    name: str
    title: str
    function: Callable[..., Floats]
    needs: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    comparison_only: bool = False

    @property
    def needs_shadows(self) -> bool:
        """Whether it reads the scores of shadow models."""
        return "shadow_scores" in self.needs

    @property
    def needs_features(self) -> bool:
        """Whether it reads features of the images, which an attack on scores alone lacks."""
        return "features" in self.needs


# One attack per line, in the order of the report.
# fmt: off
ATTACKS: dict[str, Attack] = {attack.name: attack for attack in (
    Attack("threshold", "Global threshold on the confidence (no shadows)", threshold),
    Attack("lira_online", "LiRA, online: Gaussians with and without the example", lira, (*SHADOWS, "variance"), {"online": True}),
    Attack("lira_offline", "LiRA, offline: Gaussian without the example, one-sided", lira, (*SHADOWS, "variance"), {"online": False}),
    Attack("rmia", "RMIA: confidence against the shadows', ranked among a population", rmia, SHADOWS),
    Attack("bavaria_t", "BaVarIA-t, online: LiRA with priors, our own on the shift", bavaria_t, SHADOWS, {"online": True}),
    Attack("bavaria_t_offline", "BaVarIA-t, offline: the same without the example, one-sided", bavaria_t, SHADOWS, {"online": False}),
    Attack("qmia", "QMIA: confidence against that expected from the image (no shadows)", qmia, ("features", "reference")),
    Attack("paper_compat", "TCKR notebook's scoring: not a LiRA, for comparison only", paper_compat_score, SHADOWS, comparison_only=True),
)}
# fmt: on


def scores(
    name: str,
    target_scores: ArrayLike,
    shadow_scores: ArrayLike,
    membership: ArrayLike,
    *,
    variance: Variance,
    features: ArrayLike | None = None,
    reference: ArrayLike | None = None,
) -> Floats:
    """Run the named attack.

    Args:
        name: a key of `ATTACKS`.
        target_scores: (N,), or (N, Q).
        shadow_scores: (S, N), or (S, N, Q); read by the attacks that need shadows.
        membership: bool (S, N); likewise.
        variance: of LiRA, "per_example" or "global".
        features: (N, D), for attacks that need features of the images.
        reference: bool (N,), known non-members, for attacks that learn from them.

    Returns:
        float64 (N,), larger = more likely a member.

    Raises:
        UserError: what the attack raises; an unknown name; features or reference missing.

    >>> target_scores, shadow_scores = [2.0, 0.0], [[0.0, 1.0], [1.0, 0.0]]
    >>> membership = [[False, True], [True, False]]
    >>> scores("rmia", target_scores, shadow_scores, membership, variance="global").tolist()
    [1.0, 0.5]
    """
    if name not in ATTACKS:
        raise UserError(f"There is no attack {name!r}.", f"choose one of {', '.join(ATTACKS)}.")
    attack = ATTACKS[name]
    given = {
        "shadow_scores": shadow_scores,
        "membership": membership,
        "variance": variance,
        "features": features,
        "reference": reference,
    }
    missing = [need for need in attack.needs if given[need] is None]
    if missing:
        raise UserError(
            f"The attack {name} needs {' and '.join(missing)}.",
            f"give them (features of the images, known non-members), or leave {name} out.",
        )
    arguments = {need: given[need] for need in attack.needs}
    return attack.function(target_scores, **arguments, **attack.settings)
