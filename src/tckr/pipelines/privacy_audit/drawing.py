"""Nodes that draw what the audit found."""

from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from tckr.audit import tables
from tckr.audit.options import AuditOptions
from tckr.audit.seen import Seen, part
from tckr.images.tables import images_and_labels
from tckr.pipelines.privacy_audit.figures import MODELS
from tckr.pipelines.types import Tensors

SHOWN = 16


def draw_exposed(images: pd.DataFrame, vulnerability: pd.DataFrame) -> Image.Image:
    """Show the most exposed members."""
    from tckr.images.fonts import class_label
    from tckr.reporting import figures as pictures

    table = vulnerability[vulnerability["split"] == "members"].head(SHOWN)
    chosen = images.set_index("image_id").loc[table["image_id"]]
    pixels, _ = images_and_labels(chosen)
    names = list(map(class_label, chosen["class_name"], chosen["label"]))
    return pictures.draw_exposed(
        pixels, names, table["rank"].tolist(), table["separation"].tolist()
    )


def draw_closest_pairs(
    images: pd.DataFrame, recycled_set: pd.DataFrame, release_scores: Tensors
) -> Image.Image:
    """Show the members, and for comparison the holdout images, that the released images come nearest to."""
    from tckr.attacks.nearest_neighbour import closest_pairs
    from tckr.reporting import figures as pictures

    seen = Seen(tables.audited_images(images), release=release_scores).distinct()
    audited, found = seen.audited, part(tables.as_arrays(seen.release), "images")
    inside = tables.is_member(audited)
    among = [closest_pairs(found, SHOWN, kind) for kind in (inside, ~inside)]
    # Only what is shown is decoded: the pairs then point into that.
    shown, nearest = (np.unique(column) for column in np.concatenate(among).T)
    pixels, _ = images_and_labels(audited.iloc[shown])
    released, _ = images_and_labels(recycled_set.iloc[nearest])
    of_members, of_holdout = (
        np.stack([np.searchsorted(shown, i), np.searchsorted(nearest, j)], 1)
        for i, j in (pairs.T for pairs in among)
    )
    scores = found["density_ratio"][shown]
    return pictures.draw_closest_pairs(pixels, released, of_members, of_holdout, scores)


def draw_attribution(audit: dict[str, Any]) -> Image.Image:
    """Draw each channel's share of the student's leak, or say how to measure it."""
    from tckr.audit.results import Audit
    from tckr.reporting import figures as pictures

    return pictures.draw_attribution(Audit.model_validate(audit).attribution)


def write_report(
    audit: dict[str, Any],
    accuracy: dict[str, Any],
    ingestion_report: dict[str, Any],
    student_recipe: dict[str, Any],
    recycled_set: pd.DataFrame,
    drawing_report: dict[str, Any],
    warnings: list[dict[str, str]],
    parameters: dict[str, Any],
    lineage: dict[str, str],
    guarantee_warnings: list[dict[str, str]] | None = None,
    choice_report: dict[str, Any] | None = None,
    **pictures: Image.Image,
) -> str:
    """Write the report of the run; `pictures` by the names of their datasets."""
    from tckr.audit.results import Audit
    from tckr.reporting import report

    return report.write_report(
        Audit.model_validate(audit),
        accuracy=accuracy,
        ingestion_report=ingestion_report,
        student_recipe=student_recipe,
        recycled_set=recycled_set,
        described=drawing_report["described"],
        warnings=[warning["text"] for warning in [*(guarantee_warnings or []), *warnings]],
        parameters=parameters,
        pictures=pictures,
        lineage=lineage,
        choice=choice_report["described"] if choice_report else [],
    )


def draw_scores(
    images: pd.DataFrame,
    target_scores: Tensors,
    shadow_scores: Tensors,
    membership_matrix: pd.DataFrame,
    options: AuditOptions,
    ledger: Any = None,
) -> tuple[Image.Image, Image.Image]:
    """Draw the scores of the primary attack on both models; `ledger` is the arm's `tckr.dp.Ledger`, if it has one.

    Returns:
        The ROC below the curve that the ledger proves, if there is one, on logarithmic axes, where leaks show at the
        left edge, and on plain ones; and the scores of members and non-members.
    """
    from tckr.attacks.registry import ATTACKS, scores
    from tckr.audit.threats import shadow_attack
    from tckr.reporting import figures as pictures

    seen = Seen(tables.audited_images(images), target_scores, shadow_scores).ordinary()
    audited = seen.audited
    targets, shadows = (tables.as_arrays(part) for part in (seen.targets, seen.shadows))
    of_shadows, inside = (
        tables.memberships(membership_matrix, audited),
        tables.is_member(audited),
    )
    name = shadow_attack(options) if ATTACKS[options.attack].needs_features else options.attack
    found = {
        model: scores(name, targets[model], shadows[model], of_shadows, variance=options.variance)
        for model in MODELS
    }
    beside = {model: (values, inside) for model, values in found.items()}
    proven = None if ledger is None else ledger.trade_off()
    return pictures.draw_roc(found, inside, proven), pictures.draw_histograms(beside)
