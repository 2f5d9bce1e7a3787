"""A classifier that has seen no private image."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from tckr.classifiers.options import ClassifierOptions, DistillationOptions
from tckr.engine.device import best
from tckr.engine.seeds import derive
from tckr.images.tables import class_names, images_and_labels, of_split
from tckr.pipelines.types import Classifier


def train_student(
    recycled_set: pd.DataFrame,
    teacher: Classifier,
    teacher_recipe: dict[str, Any],
    options: DistillationOptions,
    seed: int,
) -> tuple[Classifier, dict[str, Any]]:
    """Train the student on the recycled set alone, by its teacher's recipe, for `patience` times its optimiser steps.

    The private images are not among the inputs; what comes from them, comes through the recycled set and the teacher.

    Returns:
        The student, and its recipe: what the audit repeats for every shadow.
    """
    import torch

    from tckr.classifiers.distillation import train_student as train

    pixels, labels = images_and_labels(recycled_set)
    student = train(
        pixels,
        labels,
        ClassifierOptions.model_validate(teacher_recipe["classifier"]),
        derive(seed, "student"),
        len(teacher_recipe["classes"]),
        distillation=options,
        steps=teacher_recipe["steps"],
        teacher=teacher,
        soft=torch.from_numpy(np.stack(recycled_set["soft_label"].to_list()).astype(np.float32)),
        device=best(),
    )
    return student, {**teacher_recipe, "distillation": options.model_dump(mode="json")}


def measure_accuracy(
    images: pd.DataFrame, teacher: Classifier, student: Classifier
) -> dict[str, Any]:
    """Accuracy of both, in percent, on the private test split, by which nothing was chosen; per class too."""
    figures = accuracies(images, {"teacher": teacher, "student": student})
    n_test = len(of_split(images, "test"))
    return {"n_test": n_test, "classes": class_names(images), **figures}


def accuracies(images: pd.DataFrame, models: Mapping[str, Classifier]) -> dict[str, dict[str, Any]]:
    """Accuracy of each model on the private test split, in percent, and per class."""
    from tckr.classifiers.predict import accuracy, logits

    pixels, labels = images_and_labels(of_split(images, "test"))
    return {
        name: accuracy(logits(model.to(best()), pixels), labels) for name, model in models.items()
    }
