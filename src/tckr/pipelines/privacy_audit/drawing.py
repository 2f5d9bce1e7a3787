"""Nodes that draw what the audit found."""

from typing import Any

import pandas as pd
from PIL import Image

from tckr.membership.options import AuditOptions
from tckr.pipelines import audited as shared
from tckr.pipelines.privacy_audit.figures import MODELS, part
from tckr.pipelines.tensors import images_and_labels
from tckr.pipelines.types import Tensors

SHOWN = 16


def draw_exposed(images: pd.DataFrame, vulnerability: pd.DataFrame) -> Image.Image:
    """Show the most exposed members."""
    from tckr.pipelines.privacy_audit import pictures

    table = vulnerability[vulnerability["split"] == "members"].head(SHOWN)
    chosen = images.set_index("image_id").loc[table["image_id"]]
    pixels, _ = images_and_labels(chosen)
    return pictures.draw_exposed(
        pixels, table["class_name"].tolist(), table["rank"].tolist(), table["separation"].tolist()
    )


def draw_closest_pairs(
    images: pd.DataFrame, recycled_set: pd.DataFrame, release_scores: Tensors
) -> Image.Image:
    """Show the members, and for comparison the holdout images, that the released images come nearest to."""
    from tckr.membership.disclosure import closest_pairs
    from tckr.pipelines.privacy_audit import pictures

    audited = shared.audited_images(images)
    found = part(shared.as_arrays(release_scores, audited), "images")
    inside = shared.is_member(audited)
    pixels, _ = images_and_labels(audited)
    released, _ = images_and_labels(recycled_set)
    return pictures.draw_closest_pairs(
        pixels,
        released,
        closest_pairs(found, SHOWN, inside),
        closest_pairs(found, SHOWN, ~inside),
        found["density_ratio"],
    )


def draw_attribution(audit: dict[str, Any]) -> Image.Image:
    """Draw each channel's share of the student's leak, or say how to measure it."""
    from tckr.pipelines.privacy_audit import pictures

    return pictures.draw_attribution(audit["attribution"])


def draw_histograms(
    images: pd.DataFrame,
    target_scores: Tensors,
    shadow_scores: Tensors,
    membership_matrix: pd.DataFrame,
    options: AuditOptions,
) -> Image.Image:
    """Scores of members and non-members by the attack of record."""
    from tckr.pipelines.privacy_audit import pictures

    scores, inside = _scores_of_record(
        images, target_scores, shadow_scores, membership_matrix, options
    )
    return pictures.draw_histograms({model: (values, inside) for model, values in scores.items()})


def draw_roc(
    images: pd.DataFrame,
    target_scores: Tensors,
    shadow_scores: Tensors,
    membership_matrix: pd.DataFrame,
    options: AuditOptions,
) -> Image.Image:
    """ROC of the attack of record on both models, on logarithmic axes: leaks show at the left edge."""
    from tckr.pipelines.privacy_audit import pictures

    scores, inside = _scores_of_record(
        images, target_scores, shadow_scores, membership_matrix, options
    )
    return pictures.draw_roc(scores, inside)


def _scores_of_record(
    images: pd.DataFrame,
    target_scores: Tensors,
    shadow_scores: Tensors,
    membership_matrix: pd.DataFrame,
    options: AuditOptions,
) -> tuple[dict[str, Any], Any]:
    from tckr.membership.attacks.named import scores
    from tckr.membership.threats import shadow_attack

    audited = shared.audited_images(images)
    targets, shadows = (shared.as_arrays(part, audited) for part in (target_scores, shadow_scores))
    inside = shared.memberships(membership_matrix, audited)
    name = options.attack if options.attack != "qmia" else shadow_attack(options)
    of_models = {
        model: scores(name, targets[model], shadows[model], inside, variance=options.variance)
        for model in MODELS
    }
    return of_models, shared.is_member(audited)
