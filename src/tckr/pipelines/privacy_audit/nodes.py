"""What teacher and student give away about who was in the private set."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image

from tckr.classifiers.options import ClassifierOptions, DistillationOptions
from tckr.membership.audit import AuditOptions
from tckr.pipelines.device import best
from tckr.pipelines.tensors import images_and_labels, of_split
from tckr.pipelines.types import Classifier
from tckr.seeds import derive

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODELS = ("teacher", "student")
SCOPES = {"teacher": "classifier", "student": "distillation"}
AUDITED = ("members", "holdout")
COLOURS = {"teacher": "#b45309", "student": "#2563eb"}


def draw_memberships(images: pd.DataFrame, options: AuditOptions, seed: int) -> pd.DataFrame:
    """Decide which audited image is in which shadow's training set.

    Returns:
        One row a member or holdout image: image_id, is_member, and a boolean column a shadow.
    """
    from tckr.membership.design import membership_matrix

    audited = of_split(images, *AUDITED)
    matrix = membership_matrix(len(audited), options.n_shadows, 0.5, derive(seed, "membership"))
    return _by_image(audited, {"shadow": matrix})


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
    from tckr.membership.shadows import Experiment, run_shadows

    audited = of_split(images, *AUDITED)
    pixels, labels = images_and_labels(audited)
    synthetic, synthetic_labels = images_and_labels(recycled_set)
    experiment = Experiment(
        pixels,
        labels,
        synthetic,
        synthetic_labels,
        n_classes=len(student_recipe["classes"]),
        steps=student_recipe["steps"],
        classifier=ClassifierOptions.model_validate(student_recipe["classifier"]),
        distillation=DistillationOptions.model_validate(student_recipe["distillation"]),
        seed=derive(seed, "shadows"),
        device=best(),
    )
    workers = options.workers if experiment.device == "cpu" else 1
    scores = run_shadows(experiment, _matrix(membership_matrix, "shadow", audited), workers)
    return _by_image(audited, {"teacher": scores.teacher, "student": scores.student})


def score_targets(images: pd.DataFrame, teacher: Classifier, student: Classifier) -> pd.DataFrame:
    """Logit-scaled confidence of both models in every audited image."""
    from tckr.membership.shadows import model_scores

    audited = of_split(images, *AUDITED)
    pixels, labels = images_and_labels(audited)
    models = {"teacher": teacher, "student": student}
    scores = {
        name: model_scores(model.to(best()), pixels, labels) for name, model in models.items()
    }
    return _by_image(audited, {}).assign(**scores)


def audit_models(
    target_scores: pd.DataFrame,
    shadow_scores: pd.DataFrame,
    membership_matrix: pd.DataFrame,
    accuracy: dict[str, Any],
    options: AuditOptions,
) -> dict[str, Any]:
    """Attack both models; see `tckr.membership.audit`. One entry a model."""
    from tckr.membership.audit import audit

    return {
        model: audit(
            target_scores[model].to_numpy(),
            _matrix(shadow_scores, model, target_scores),
            _matrix(membership_matrix, "shadow", target_scores).astype(bool),
            target_scores["is_member"].to_numpy(),
            accuracy_percent=accuracy[model]["accuracy"],
            options=options,
            scope=SCOPES[model],  # type: ignore[arg-type]
        )
        for model in MODELS
    }


def gather_metrics(audit: dict[str, Any]) -> dict[str, float | None]:
    """The figures to compare runs by, in percent: the student's under bare names, the teacher's after `teacher.`."""
    metrics: dict[str, float | None] = {}
    for model, prefix in (("student", ""), ("teacher", "teacher.")):
        figures = audit[model]
        metrics |= {
            f"{prefix}accuracy": figures["accuracy"],
            f"{prefix}AUC_MIA": 100 * figures["auc"]["value"],
            f"{prefix}AUC_MIA_low": 100 * figures["auc"]["low"],
            f"{prefix}AUC_MIA_high": 100 * figures["auc"]["high"],
            f"{prefix}AOP": figures["aop"]["value"],
        }
        rate = figures["tpr"]
        name = f"{model}.TPR_at_{100 * rate['fpr']:g}pct_FPR"
        metrics[name] = None if rate["value"] is None else 100 * rate["value"]
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
    from tckr.pipelines.pictures import new_figure, rendered

    inside = target_scores["is_member"].to_numpy()
    membership = _matrix(membership_matrix, "shadow", target_scores).astype(bool)
    lowest = 0.5 / max(int((~inside).sum()), 1)
    figure = new_figure()
    axes = figure.axes[0]
    for model in MODELS:
        shadow = _matrix(shadow_scores, model, target_scores)
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


def _by_image(audited: pd.DataFrame, matrices: dict[str, "NDArray[Any]"]) -> pd.DataFrame:
    """Put (S, N) matrices into one table, a row an image and a column a shadow."""
    table = pd.DataFrame(
        {
            "image_id": audited["image_id"].to_numpy(),
            "is_member": (audited["split"] == "members").to_numpy(),
        }
    )
    columns = {
        f"{name}_{i}": row for name, matrix in matrices.items() for i, row in enumerate(matrix)
    }
    return pd.concat([table, pd.DataFrame(columns)], axis=1)


def _matrix(table: pd.DataFrame, name: str, images: pd.DataFrame) -> "NDArray[Any]":
    """Take an (S, N) matrix out of its table, for these images in their order.

    Raises:
        UserError: the table was made for other images.
    """
    from tckr.errors import UserError

    if set(table["image_id"]) != set(images["image_id"]):
        raise UserError(
            "The scores and memberships in the catalog belong to another private set.",
            "run the whole stage again: kedro run --namespaces=privacy_audit.",
        )
    rows = table.set_index("image_id").loc[images["image_id"]]
    columns = [column for column in rows if column.startswith(f"{name}_")]
    return np.array(
        rows[columns].to_numpy().T, order="C"
    )  # a copy: pandas hands out read-only views
