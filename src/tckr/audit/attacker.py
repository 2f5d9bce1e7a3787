"""The attacker's own student: what somebody trains who holds the recycled set as it is handed out, and nothing else.

A set's soft labels are the teacher's, which saw the private images: whoever trains a network on images and labels has an
approximation of the teacher, and attacks that. Target and shadows are trained by this one recipe.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch

from tckr.audit.options import AttackerOptions
from tckr.classifiers.distillation import train_student
from tckr.classifiers.models import Network
from tckr.classifiers.options import (
    AugmentationOptions,
    ClassifierOptions,
    DistillationOptions,
    LabelSource,
)
from tckr.images.tables import images_and_labels, stored_labels

RELEASED = "released"  # the thing that this student stands for

# A stored label is that of one view: on that view alone, unsmoothed, a network copies it soonest (docs/audit.md).
PLAIN = AugmentationOptions(shift=0, flip=False, contrast=0, offset=0)


def labels_of(recycled_set: pd.DataFrame) -> tuple[LabelSource, int]:
    """Return which labels a holder of the set trains on, and of how many views of each image."""
    soft = stored_labels(recycled_set.head(1))
    if soft is None:
        return "hard", 1
    return "stored", soft.shape[1] if soft.ndim == 3 else 1


def recipe(
    classifier: ClassifierOptions, labels: LabelSource, views: int, options: AttackerOptions
) -> ClassifierOptions:
    """Return the attacker's recipe: the student's, on the very views whose labels are stored, without smoothing them.

    >>> recipe(ClassifierOptions(), "stored", 1, AttackerOptions()).label_smoothing
    0.0
    """
    if labels == "hard" or options.random_views:
        return classifier
    own = PLAIN if views == 1 else classifier.augmentation.model_copy(update={"mixup": 0.0})
    return classifier.model_copy(update={"label_smoothing": 0.0, "augmentation": own})


def distillation(labels: LabelSource, views: int, options: AttackerOptions) -> DistillationOptions:
    """Return what the attacker trains on, and for how long."""
    return DistillationOptions(labels=labels, views=views, patience=options.patience)


def train_attacker(
    recycled_set: pd.DataFrame,
    recipe_of_student: Mapping[str, Any],
    options: AttackerOptions,
    seed: int,
    device: str,
) -> Network:
    """Train the attacker's student on a recycled set.

    Args:
        recycled_set: image table as it is handed out.
        recipe_of_student: `classifier`, `steps` of the teacher and `classes`.
        options: how they train.
        seed: as for `TrainSpec`.
        device: where to train.
    """
    labels, views = labels_of(recycled_set)
    soft = stored_labels(recycled_set)
    classifier = ClassifierOptions.model_validate(recipe_of_student["classifier"])
    return train_student(
        *images_and_labels(recycled_set),
        recipe(classifier, labels, views, options),
        seed,
        len(recipe_of_student["classes"]),
        distillation=distillation(labels, views, options),
        steps=recipe_of_student["steps"],
        soft=None if soft is None else torch.from_numpy(soft),
        device=device,
    )
