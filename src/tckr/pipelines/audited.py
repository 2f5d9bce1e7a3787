"""What every audit of classifiers shares: the audited images, tables of a row an image, shadows and figures."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tckr.classifiers.options import ClassifierOptions, DistillationOptions
from tckr.membership.audit import AuditOptions
from tckr.pipelines.device import best
from tckr.pipelines.tensors import images_and_labels, of_split
from tckr.pipelines.types import Classifier
from tckr.seeds import derive

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from tckr.membership.shadows import ShadowScores

SPLITS = ("members", "holdout")


def by_image(audited: pd.DataFrame, matrices: Mapping[str, "NDArray[Any]"]) -> pd.DataFrame:
    """Put (S, N) matrices into one table, a row an image and a column a shadow: `<name>_0`, `<name>_1`, ..."""
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


def matrix(table: pd.DataFrame, name: str, images: pd.DataFrame) -> "NDArray[Any]":
    """Take an (S, N) matrix out of its table, for these images in their order.

    Raises:
        UserError: the table was made for other images.
    """
    from tckr.errors import UserError

    if set(table["image_id"]) != set(images["image_id"]):
        raise UserError(
            "The scores and memberships in the catalog belong to another private set.",
            "run the whole stage again: kedro run --namespaces=<stage>.",
        )
    rows = table.set_index("image_id").loc[images["image_id"]]
    columns = [column for column in rows if column.startswith(f"{name}_")]
    return np.array(
        rows[columns].to_numpy().T, order="C"
    )  # a copy: pandas hands out read-only views


def score_models(images: pd.DataFrame, models: Mapping[str, Classifier]) -> pd.DataFrame:
    """Logit-scaled confidence of every model in every audited image: a column a model."""
    from tckr.membership.shadows import model_scores

    audited = of_split(images, *SPLITS)
    pixels, labels = images_and_labels(audited)
    scores = {
        name: model_scores(model.to(best()), pixels, labels) for name, model in models.items()
    }
    return by_image(audited, {}).assign(**scores)


def train_shadows(
    audited: pd.DataFrame,
    synthetic: tuple["Tensor", "Tensor"],
    sizes: Sequence[int],
    memberships: pd.DataFrame,
    recipe: Mapping[str, Any],
    options: AuditOptions,
    seed: int,
) -> "ShadowScores":
    """Train shadow teachers and shadow students by the targets' own recipe and score every audited image.

    Args:
        audited: image table of members and holdout.
        synthetic: released images, uint8 (M, C, H, W), and the classes of their prompts, int64 (M,).
        sizes: how many of the first synthetic images each student of a shadow reads; empty: one student, which reads all.
        memberships: table of a column a shadow.
        recipe: a target student's: classifier, distillation, steps, classes.
    """
    from tckr.membership.shadows import Experiment, run_shadows

    pixels, labels = images_and_labels(audited)
    experiment = Experiment(
        pixels,
        labels,
        *synthetic,
        sizes=tuple(sizes),
        n_classes=len(recipe["classes"]),
        steps=recipe["steps"],
        classifier=ClassifierOptions.model_validate(recipe["classifier"]),
        distillation=DistillationOptions.model_validate(recipe["distillation"]),
        seed=derive(seed, "shadows"),
        device=best(),
    )
    workers = options.workers if experiment.device == "cpu" else 1
    return run_shadows(experiment, matrix(memberships, "shadow", audited), workers)


def attack_models(
    accuracies: Mapping[str, float],
    target_scores: pd.DataFrame,
    shadow_scores: pd.DataFrame,
    memberships: pd.DataFrame,
    options: AuditOptions,
) -> dict[str, dict[str, Any]]:
    """Attack every model of `accuracies` (percent); see `tckr.membership.audit`. `teacher` alone is no student."""
    from tckr.membership.audit import audit

    inside = matrix(memberships, "shadow", target_scores).astype(bool)
    return {
        model: audit(
            target_scores[model].to_numpy(),
            matrix(shadow_scores, model, target_scores),
            inside,
            target_scores["is_member"].to_numpy(),
            accuracy_percent=accuracy,
            options=options,
            scope="classifier" if model == "teacher" else "distillation",
        )
        for model, accuracy in accuracies.items()
    }


def rate_name(figures: Mapping[str, Any]) -> str:
    """Name of the true-positive rate of one audited model, as MLflow and tables show it."""
    return f"TPR_at_{100 * figures['tpr']['fpr']:g}pct_FPR"


def in_percent(figures: Mapping[str, Any]) -> dict[str, float | None]:
    """The figures of one audited model with their intervals, rates in percent; None where nothing is measurable."""
    estimates = {
        "AUC_MIA": (figures["auc"], 100),
        "AOP": (figures["aop"], 1),
        rate_name(figures): (figures["tpr"], 100),
    }
    percent: dict[str, float | None] = {"accuracy": figures["accuracy"]}
    for name, (estimate, scale) in estimates.items():
        for suffix, part in (("", "value"), ("_low", "low"), ("_high", "high")):
            value = estimate[part]
            percent[f"{name}{suffix}"] = None if value is None else scale * value
    return percent
