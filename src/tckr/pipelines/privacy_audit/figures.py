"""Nodes that turn scores into figures: every threat model's own, the exposed examples, what MLflow compares."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tckr.audit.options import AuditOptions
from tckr.pipelines import audited as shared
from tckr.pipelines import membership
from tckr.pipelines.types import Tensors

if TYPE_CHECKING:
    from tckr.audit.results import Attribution

MODELS = ("teacher", "student")
COMPARED = ("accuracy", "AUC_MIA", "AUC_MIA_low", "AUC_MIA_high", "AOP", "AOP_low", "AOP_high")


def audit_release(
    images: pd.DataFrame,
    target_scores: Tensors,
    shadow_scores: Tensors,
    generator_scores: Tensors,
    release_scores: Tensors,
    membership_matrix: pd.DataFrame,
    audit_plan: dict[str, Any],
    accuracy: dict[str, Any],
    options: AuditOptions,
) -> dict[str, Any]:
    """Attack teacher, student, generator, images and prompts, each on its own; see `tckr.audit`."""
    from tckr.audit.results import Audit, Plan
    from tckr.audit.threats import audit_generator
    from tckr.audit.threats import audit_release as attack

    audited = membership.audited_images(images)
    release = membership.as_arrays(release_scores, audited)
    accuracies = {model: accuracy[model]["accuracy"] for model in MODELS}
    models = shared.attack_models(
        accuracies,
        audited,
        target_scores,
        shadow_scores,
        membership_matrix,
        release["features"],
        options,
    )
    inside, asked = membership.is_member(audited), membership.as_arrays(generator_scores, audited)
    shadows = {
        name.removeprefix("generator."): scores[..., 0].astype(np.float64)
        for name, scores in membership.as_arrays(shadow_scores, audited).items()
        if name.startswith("generator.")
    }
    of_shadows = (
        membership.memberships(membership_matrix, audited)[:, asked["rows"]] if shadows else None
    )
    generator = audit_generator(
        part(asked, "adapted"),
        part(asked, "base"),
        inside[asked["rows"]],
        options,
        shadows or None,
        of_shadows,
    )
    shared.forget_checkpoints(options)
    found = Audit(
        plan=Plan.model_validate(audit_plan),
        things={
            **models,
            "generator": generator,
            "images": attack("images", part(release, "images"), inside, options),
            "prompts": attack(
                "prompts", part(release, "prompts"), inside[release["rows"]], options
            ),
        },
        attribution=_attribution(audited, shadow_scores, membership_matrix, options),
    )
    return found.model_dump(mode="json")


def part(arrays: dict[str, Any], name: str) -> dict[str, Any]:
    prefix = f"{name}."
    return {
        key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)
    }


def _attribution(
    audited: pd.DataFrame,
    shadow_scores: Tensors,
    membership_matrix: pd.DataFrame,
    options: AuditOptions,
) -> "Attribution | None":
    from tckr.audit.attribution import EVERY_WAY, attribute
    from tckr.audit.audit import over_shadows

    if not options.attribution:
        return None
    inside = membership.memberships(membership_matrix, audited)
    shadows = membership.as_arrays(shadow_scores, audited)
    scores = {
        ways.name: over_shadows(shadows[ways.name].astype(np.float64), inside, options)
        for ways in EVERY_WAY
    }
    return attribute(scores, inside, options.confidence)


def rank_exposed(
    images: pd.DataFrame, shadow_scores: Tensors, membership_matrix: pd.DataFrame
) -> pd.DataFrame:
    """Rank the audited images by how much a student that learnt from them moves; for the data owner alone."""
    from tckr.audit.vulnerability import vulnerability

    audited = membership.audited_images(images)
    shadows = membership.as_arrays(shadow_scores, audited)
    exposed = vulnerability(shadows["student"], membership.memberships(membership_matrix, audited))
    facts = audited[["image_id", "split", "class_name"]].reset_index(drop=True)
    return pd.concat([facts, exposed], axis=1).sort_values("rank", ignore_index=True)


def gather_metrics(audit: dict[str, Any]) -> dict[str, float | None]:
    """Return the figures to compare runs by, in percent: the student's under bare names, others as `teacher.AUC_MIA`."""
    from tckr.audit.results import Audit

    found = Audit.model_validate(audit)
    metrics: dict[str, float | None] = {}
    for name, prefix in (("student", ""), ("teacher", "teacher.")):
        if name in found.models:
            model = found.models[name]
            figures = model.in_percent()
            metrics |= {f"{prefix}{key}": figures[key] for key in COMPARED}
            rate = model.primary.tpr.name
            metrics |= {
                f"{name}.{rate}{end}": figures[f"{rate}{end}"] for end in ("", "_low", "_high")
            }
    for name, threat in found.threats.items():
        figures = threat.in_percent()
        metrics |= {
            f"{name}.AUC_MIA{end}": figures[f"AUC_MIA{end}"] for end in ("", "_low", "_high")
        }
    return metrics
