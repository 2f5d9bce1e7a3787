"""The other things that would be released: the generator, the images, the prompts; each attacked on its own."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tckr.attacks import ATTACKS
from tckr.attacks.registry import scores
from tckr.audit.audit import figures
from tckr.audit.denoising import calibrated
from tckr.audit.options import AuditOptions

ASSUMES = {
    "generator": "The adapter is handed out: the attacker asks the denoiser about each image.",
    "images": "Only the synthetic images are handed out: their nearest neighbours tell.",
    "prompts": (
        "The prompts are handed out (knowledge_recycling.release_prompts; by default they are not):"
        " captions of the members."
    ),
}
LABELS = {
    "loss": "denoising loss, as it is",
    "loss_calibrated": "denoising loss, less that of the base generator",
    "one_query": "predicted noise in the clean latent (SimA), as it is",
    "one_query_calibrated": "predicted noise in the clean latent, less that of the base generator",
    "nearest": "distance to the nearest released one",
    "density_ratio": "distance to the nearest released one, against that to the nearest of others",
    "exact": "the very prompt is released, weighted by how rare it is",
}


def audit_generator(
    adapted: Mapping[str, NDArray[np.float64]],
    base: Mapping[str, NDArray[np.float64]],
    is_member: NDArray[np.bool_],
    options: AuditOptions,
    shadow: Mapping[str, NDArray[np.float64]] | None = None,
    membership: NDArray[np.bool_] | None = None,
) -> dict[str, Any]:
    """Attack the adapted generator.

    Args:
        adapted: signals (N,) by name, `loss` and `one_query`.
        base: the same of the generator before it was adapted.
        is_member: bool (N,).
        options: with shadows, its attack of record is that of the generator too.
        shadow: signals (S, N) of shadow adapters (scope `pipeline`).
        membership: bool (S, N), of those.

    Returns:
        As `_threat`; the attack of record is the denoising loss, calibrated by shadow adapters
        where there are any, else by the base generator.
    """
    of_attack: dict[str, NDArray[np.float64]] = {}
    labels = dict(LABELS)
    for name, signal in adapted.items():
        of_attack[name] = signal
        of_attack[f"{name}_calibrated"] = calibrated(signal, base[name])
        if shadow is not None and membership is not None:
            for attack in dict.fromkeys((shadow_attack(options), "lira_online", "rmia")):
                key = f"{name}_{attack}"
                of_attack[key] = scores(
                    attack, signal, shadow[name], membership, variance=options.variance
                )
                labels[key] = (
                    f"{LABELS[name].split(',')[0]}, shadow adapters: {ATTACKS[attack].title}"
                )
    record = "loss_calibrated" if shadow is None else f"loss_{shadow_attack(options)}"
    shadows = 0 if membership is None or shadow is None else len(membership)
    found = _threat("generator", of_attack, record, is_member, options, labels)
    return found | {"n_shadows": shadows}


def shadow_attack(options: AuditOptions) -> str:
    """The attack of record if it reads shadows, else the one for few of them."""
    attack = ATTACKS[options.attack]
    return attack.name if attack.needs_shadows and not attack.comparison_only else "rmia"


def audit_release(
    threat: str,
    found: Mapping[str, NDArray[Any]],
    is_member: NDArray[np.bool_],
    options: AuditOptions,
) -> dict[str, Any]:
    """Attack the released `images` or `prompts` by the scores (N,) of `disclosure`.

    The attack of record of the images is `density_ratio`, that of the prompts `exact`.
    """
    of_attack = {
        name: found[name] for name in ("nearest", "density_ratio", "exact") if name in found
    }
    record = "exact" if threat == "prompts" else "density_ratio"
    return _threat(threat, of_attack, record, is_member, options, LABELS)


def _threat(
    threat: str,
    of_attack: Mapping[str, NDArray[np.float64]],
    record: str,
    is_member: NDArray[np.bool_],
    options: AuditOptions,
    labels: Mapping[str, str],
) -> dict[str, Any]:
    attacks = {
        name: figures(np.asarray(values, dtype=np.float64), is_member, options)
        | {"label": labels[name]}
        for name, values in of_attack.items()
    }
    return {
        "assumes": ASSUMES[threat],
        "attack_of_record": record,
        "n_members": int(is_member.sum()),
        "n_non_members": int((~is_member).sum()),
        **attacks[record],
        "attacks": attacks,
    }
