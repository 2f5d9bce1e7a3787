"""What teacher and student give away about who was in the private set."""

from typing import Any

import pandas as pd
from PIL import Image

from tckr.membership.audit import AuditOptions
from tckr.pipelines.audited import (
    SPLITS,
    attack_models,
    by_image,
    in_percent,
    matrix,
    rate_name,
    score_models,
    train_shadows,
)
from tckr.pipelines.tensors import images_and_labels, of_split
from tckr.pipelines.types import Classifier
from tckr.seeds import derive

MODELS = ("teacher", "student")
COMPARED = ("accuracy", "AUC_MIA", "AUC_MIA_low", "AUC_MIA_high", "AOP")


def draw_memberships(images: pd.DataFrame, options: AuditOptions, seed: int) -> pd.DataFrame:
    """Decide which audited image is in which shadow's training set.

    Returns:
        One row a member or holdout image: image_id, is_member, and a boolean column a shadow.
    """
    from tckr.membership.design import membership_matrix

    audited = of_split(images, *SPLITS)
    drawn = membership_matrix(len(audited), options.n_shadows, 0.5, derive(seed, "membership"))
    return by_image(audited, {"shadow": drawn})


def score_shadows(
    images: pd.DataFrame,
    recycled_set: pd.DataFrame,
    membership_matrix: pd.DataFrame,
    student_recipe: dict[str, Any],
    options: AuditOptions,
    seed: int,
) -> pd.DataFrame:
    """Train shadow teachers and shadow students by the targets' own recipe and score every audited image.

    Returns:
        One row an audited image: image_id, is_member, and a logit-scaled confidence a shadow, `teacher_0`... and
        `student_0`...
    """
    audited = of_split(images, *SPLITS)
    released = images_and_labels(recycled_set)
    scores = train_shadows(audited, released, (), membership_matrix, student_recipe, options, seed)
    return by_image(audited, {"teacher": scores.teacher, "student": scores.students[0]})


def score_targets(images: pd.DataFrame, teacher: Classifier, student: Classifier) -> pd.DataFrame:
    """Logit-scaled confidence of both models in every audited image."""
    return score_models(images, {"teacher": teacher, "student": student})


def audit_models(
    target_scores: pd.DataFrame,
    shadow_scores: pd.DataFrame,
    membership_matrix: pd.DataFrame,
    accuracy: dict[str, Any],
    options: AuditOptions,
) -> dict[str, Any]:
    """Attack both models; see `tckr.membership.audit`. One entry a model."""
    accuracies = {model: accuracy[model]["accuracy"] for model in MODELS}
    return attack_models(accuracies, target_scores, shadow_scores, membership_matrix, options)


def gather_metrics(audit: dict[str, Any]) -> dict[str, float | None]:
    """The figures to compare runs by, in percent: the student's under bare names, the teacher's after `teacher.`."""
    metrics: dict[str, float | None] = {}
    for model, prefix in (("student", ""), ("teacher", "teacher.")):
        figures = in_percent(audit[model])
        metrics |= {f"{prefix}{name}": figures[name] for name in COMPARED}
        rate = rate_name(audit[model])
        metrics[f"{model}.{rate}"] = figures[rate]
    return metrics


def draw_roc(
    target_scores: pd.DataFrame,
    shadow_scores: pd.DataFrame,
    membership_matrix: pd.DataFrame,
    options: AuditOptions,
) -> Image.Image:
    """ROC of the attack of record on both models, on logarithmic axes: leaks show at the left edge."""
    from tckr.membership.audit import attack_scores
    from tckr.membership.statistics import roc
    from tckr.pipelines.pictures import COLOURS, new_figure, rendered

    inside = target_scores["is_member"].to_numpy()
    membership = matrix(membership_matrix, "shadow", target_scores).astype(bool)
    lowest = 0.5 / max(int((~inside).sum()), 1)
    figure = new_figure()
    axes = figure.axes[0]
    for model in MODELS:
        shadow = matrix(shadow_scores, model, target_scores)
        scores = attack_scores(
            options.attack, target_scores[model].to_numpy(), shadow, membership, options.variance
        )
        false, true = roc(scores, inside)
        axes.plot(
            false.clip(lowest), true.clip(lowest), color=COLOURS[model], linewidth=1.8, label=model
        )
    axes.plot(
        [lowest, 1], [lowest, 1], color="#9ca3af", linewidth=1, linestyle="--", label="guessing"
    )
    axes.set(xscale="log", yscale="log", xlim=(lowest, 1), ylim=(lowest, 1))
    axes.set(
        xlabel="false-positive rate (non-members taken for members)", ylabel="true-positive rate"
    )
    axes.legend(frameon=False, loc="lower right")
    return rendered(figure)
