"""A classifier that has seen no private image."""

from typing import Any

import numpy as np
import pandas as pd

from tckr.classifiers.options import ClassifierOptions, DistillationOptions
from tckr.pipelines.device import best
from tckr.pipelines.tensors import class_names, images_and_labels, of_split
from tckr.pipelines.types import Classifier
from tckr.seeds import derive


def train_student(
    images: pd.DataFrame,
    recycled_set: pd.DataFrame,
    teacher: Classifier,
    recipe: ClassifierOptions,
    options: DistillationOptions,
    seed: int,
) -> Classifier:
    """Train the student on the recycled set alone, for as many optimiser steps as its teacher had.

    The private set gives two numbers: how many members there are, which sets the steps, and how many classes.
    """
    import torch

    from tckr.classifiers.recipe import train_student as train

    pixels, labels = images_and_labels(recycled_set)
    return train(
        pixels,
        labels,
        recipe,
        derive(seed, "student"),
        len(class_names(images)),
        distillation=options,
        steps=recipe.steps(len(of_split(images, "members"))),
        teacher=teacher,
        soft=torch.from_numpy(np.stack(recycled_set["soft_label"].to_list()).astype(np.float32)),
        device=best(),
    )


def measure_accuracy(
    images: pd.DataFrame, teacher: Classifier, student: Classifier
) -> dict[str, Any]:
    """Accuracy of both, in percent, on the private test split, by which nothing was chosen; per class too."""
    from tckr.classifiers.predict import accuracy, logits

    test = of_split(images, "test")
    pixels, labels = images_and_labels(test)
    models = {"teacher": teacher, "student": student}
    figures = {
        name: accuracy(logits(model.to(best()), pixels), labels) for name, model in models.items()
    }
    return {"n_test": len(test), "classes": class_names(images), **figures}
