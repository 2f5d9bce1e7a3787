"""A classifier that has seen no private image."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from tckr.classifiers.names import check_finite, named
from tckr.classifiers.options import ClassifierOptions, DistillationOptions
from tckr.engine.device import best
from tckr.engine.seeds import derive
from tckr.errors import UserError
from tckr.images.tables import SLICE, class_names, images_and_labels, of_split, stored_labels
from tckr.pipelines.types import Classifier


def train_student(
    recycled_set: pd.DataFrame,
    teacher_recipe: dict[str, Any],
    options: DistillationOptions,
    seed: int,
    teacher: Classifier = None,
) -> tuple[Classifier, dict[str, Any]]:
    """Train the student on the recycled set alone, by its teacher's recipe, for `patience` times its optimizer steps.

    The private images are not among the inputs; what comes from them, comes through the recycled set and the teacher.

    Returns:
        The student, and its recipe: what the audit repeats for every shadow.

    Raises:
        UserError: labels of a teacher are wanted in an arm that has none, fresh images of a set without slices, or the
            training diverged.
    """
    import torch

    from tckr.classifiers import distillation

    if teacher is None and options.labels != "hard":
        raise UserError(
            f"This arm labels by its prompts alone, so its student cannot learn from labels {options.labels}.",
            "set its student_training.labels to hard.",
        )
    stored = stored_labels(recycled_set)
    soft = None if stored is None else torch.from_numpy(stored)
    if soft is not None and options.labels == "stored":
        # What the shadows of the audit have to repeat.
        options = options.model_copy(update={"views": soft.shape[1] if soft.ndim == 3 else 1})
    options = _regenerating(options, recycled_set)
    pixels, labels = images_and_labels(recycled_set)
    student = distillation.train_student(
        pixels,
        labels,
        ClassifierOptions.model_validate(teacher_recipe["classifier"]),
        derive(seed, "student"),
        len(teacher_recipe["classes"]),
        distillation=options,
        steps=teacher_recipe["steps"],
        teacher=teacher,
        soft=soft,
        device=best(),
    )
    check_finite(student, "student")
    students = {"student": {"pool": "released", "labels": options.labels}}
    settings = {"distillation": options.model_dump(mode="json"), "students": students}
    return named(student, teacher_recipe["classes"]), {**teacher_recipe, **settings}


def _regenerating(options: DistillationOptions, recycled_set: pd.DataFrame) -> DistillationOptions:
    """Return the options with the number of slices that the set has, which the shadows of the audit have to repeat."""
    if options.regenerate is None:
        return options
    slices = int(recycled_set[SLICE].max()) + 1 if SLICE in recycled_set else 1
    if slices == 1:
        raise UserError(
            "student_training.regenerate wants fresh images, and the recycled set has one slice alone.",
            "set knowledge_recycling.slices to 2 or more and draw it again, or student_training.regenerate to null.",
        )
    regenerate = options.regenerate.model_copy(update={"slices": slices})
    return options.model_copy(update={"regenerate": regenerate})


def measure_accuracy(
    images: pd.DataFrame, teacher: Classifier, student: Classifier
) -> dict[str, Any]:
    """Measure the accuracy of both, in percent, on the private test split, by which nothing was chosen; per class too."""
    figures = accuracies(images, {"teacher": teacher, "student": student})
    n_test = len(of_split(images, "test"))
    return {"n_test": n_test, "classes": class_names(images), **figures}


def accuracies(images: pd.DataFrame, models: Mapping[str, Classifier]) -> dict[str, dict[str, Any]]:
    """Measure the accuracy of each model on the private test split, in percent, and per class."""
    from tckr.classifiers.predict import accuracy, logits

    pixels, labels = images_and_labels(of_split(images, "test"))
    return {
        name: accuracy(logits(model.to(best()), pixels), labels) for name, model in models.items()
    }
