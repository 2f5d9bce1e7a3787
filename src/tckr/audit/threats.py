"""Audit the other things of a release, each on its own: the generator, the images, the prompts."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tckr.attacks import ATTACKS
from tckr.attacks.registry import scores
from tckr.audit.denoising import calibrated
from tckr.audit.denoising_attacks import SIGNALS
from tckr.audit.evaluation import coarse_roc, evaluate
from tckr.audit.groups import exposed_groups
from tckr.audit.options import AuditOptions
from tckr.audit.things import ThreatAudit, thing_of

PIXELS = ("nearest_pixels", "density_ratio_pixels")
LABELS = {
    "nearest": "distance to the nearest released one",
    "density_ratio": "distance to the nearest released one, relative to the nearest of others",
    "nearest_pixels": "distance in pixels to the nearest released one of its class",
    "density_ratio_pixels": "distance in pixels, within the class, relative to the nearest of others",
    "exact": "this very prompt is released, weighted by its rarity",
}


FEWEST_ASKED = 1000  # members, and other images: with 500 a leak of 5 points shows in 4 of 5 audits


def audit_generator(
    adapted: Mapping[str, NDArray[np.float64]],
    base: Mapping[str, NDArray[np.float64]],
    is_member: NDArray[np.bool_],
    options: AuditOptions,
    shadow: Mapping[str, NDArray[np.float64]] | None = None,
    membership: NDArray[np.bool_] | None = None,
    clusters: NDArray[np.int64] | None = None,
    made_elsewhere: bool = False,
    *,
    proven: bool = False,
) -> ThreatAudit:
    """Attack the adapted generator.

    The primary attack is the signal that `options.generator.record` names, calibrated by shadow adapters if there are any,
    else by the generator before adaptation.

    Args:
        adapted: signals (N,) by their names in `denoising_attacks.SIGNALS`.
        base: the same signals of the generator before adaptation.
        is_member: bool (N,).
        options: with shadows, its primary attack is also that of the generator; see `shadow_attack`.
        shadow: signals (S, N) of shadow adapters (scope `pipeline`).
        membership: bool (S, N), members to which each shadow was adapted.
        clusters: int (N,), the person behind each image where some have several; see `evaluate`.
        made_elsewhere: every shadow holds the target's own adapter, which calibrates nothing.
        proven: the generator was adapted under differential privacy.
    """
    if made_elsewhere:
        shadow = membership = None
    attack_scores, labels, primary = generator_attacks(adapted, base, options, shadow, membership)
    fewest = min(int(is_member.sum()), int((~is_member).sum()))
    limits = ""
    if made_elsewhere:
        limits = (
            "The adapter was made elsewhere, by a training that shadows cannot repeat: none of them is without an image of"
            " its training set."
        )
    elif shadow is None:
        limits = (
            "Without shadow adapters the attack misses leaks that it finds with them: measure with privacy_audit.scope: pipeline"
            f"{' and privacy_audit.asked: null' if fewest < FEWEST_ASKED else ''}."
        )
    elif fewest < FEWEST_ASKED:
        limits = (
            f"{fewest:,} images of a kind are too few to see a leak of a few points: measure with privacy_audit.asked: null"
            f" and {FEWEST_ASKED:,} members or more."
        )
    n_shadows = 0 if membership is None or shadow is None else len(membership)
    found = _threat(
        "generator",
        attack_scores,
        primary,
        is_member,
        options,
        labels,
        n_shadows,
        clusters,
        limits,
        proven=proven,
    )
    if shadow is None or membership is None:
        return found
    # What an adapter knows of a few images by heart is lost in the average over all.
    groups = exposed_groups(
        attack_scores[primary],
        is_member,
        shadow[options.generator.record],
        membership,
        options,
        clusters=clusters,
    )
    return found.model_copy(update={"groups": groups})


def generator_attacks(
    adapted: Mapping[str, NDArray[np.float64]],
    base: Mapping[str, NDArray[np.float64]],
    options: AuditOptions,
    shadow: Mapping[str, NDArray[np.float64]] | None = None,
    membership: NDArray[np.bool_] | None = None,
) -> tuple[dict[str, NDArray[np.float64]], dict[str, str], str]:
    """Return the scores (N,) of every attack on a generator, what each is in words, and which one is primary.

    The arguments are those of `audit_generator`.
    """
    attack_scores: dict[str, NDArray[np.float64]] = {}
    labels: dict[str, str] = {}
    for name, signal in adapted.items():
        title = SIGNALS[name].title
        attack_scores[name] = signal
        labels[name] = f"{title}, uncalibrated"
        attack_scores[f"{name}_calibrated"] = calibrated(signal, base[name])
        labels[f"{name}_calibrated"] = f"{title} minus that of the generator before adaptation"
        if shadow is not None and membership is not None:
            for attack in dict.fromkeys((shadow_attack(options), "lira_online", "rmia")):
                key = f"{name}_{attack}"
                attack_scores[key] = scores(
                    attack, signal, shadow[name], membership, variance=options.variance
                )
                labels[key] = f"{title}, shadow adapters: {ATTACKS[attack].title}"
    record = options.generator.record
    return (
        attack_scores,
        labels,
        f"{record}_calibrated" if shadow is None else f"{record}_{shadow_attack(options)}",
    )


def shadow_attack(options: AuditOptions) -> str:
    """Return the primary attack if it reads shadow scores, else RMIA, which needs few shadows.

    >>> from tckr.audit.options import ReleaseThreat
    >>> shadow_attack(AuditOptions(attack="threshold", release=ReleaseThreat(encoder="not used")))
    'rmia'
    """
    attack = ATTACKS[options.attack]
    return attack.name if attack.needs_shadows and not attack.comparison_only else "rmia"


def audit_release(
    thing: str,
    attack_scores: Mapping[str, NDArray[Any]],
    is_member: NDArray[np.bool_],
    options: AuditOptions,
    clusters: NDArray[np.int64] | None = None,
    *,
    proven: bool = False,
) -> ThreatAudit:
    """Attack the released `images` or `prompts`.

    The primary attack on the images is `density_ratio`, on the prompts `exact`.

    Args:
        thing: `images` or `prompts`.
        attack_scores: (N,) by name, of `tckr.attacks.nearest_neighbour`; other arrays are ignored.
        is_member: bool (N,).
        options: rates, priors, delta and confidence.
        clusters: int (N,), the person behind each image where some have several; see `evaluate`.
        proven: images and prompts were made under differential privacy.
    """
    known = {
        name: attack_scores[name]
        for name in ("nearest", "density_ratio", *PIXELS, "exact")
        if name in attack_scores
    }
    primary = "exact" if thing == "prompts" else "density_ratio"
    return _threat(
        thing, known, primary, is_member, options, LABELS, clusters=clusters, proven=proven
    )


def _threat(
    thing: str,
    attack_scores: Mapping[str, NDArray[Any]],
    primary: str,
    is_member: NDArray[np.bool_],
    options: AuditOptions,
    labels: Mapping[str, str],
    n_shadows: int = 0,
    clusters: NDArray[np.int64] | None = None,
    limits: str = "",
    proven: bool = False,
) -> ThreatAudit:
    return ThreatAudit(
        shows="leaks" if limits else "both",
        limits=limits,
        assumes=thing_of(thing, proven=proven).attacker,
        primary_attack=primary,
        n_members=int(is_member.sum()),
        n_non_members=int((~is_member).sum()),
        n_shadows=n_shadows,
        roc=coarse_roc(np.asarray(attack_scores[primary], dtype=np.float64), is_member),
        attacks={
            name: evaluate(
                name,
                labels[name],
                np.asarray(values, dtype=np.float64),
                is_member,
                options,
                clusters=clusters,
            )
            for name, values in attack_scores.items()
        },
    )
