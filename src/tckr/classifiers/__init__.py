"""Classifiers: architectures, training on hard or soft labels, prediction and storage.

Names are imported when they are first used, so that `tckr.classifiers.options` can be read without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tckr.classifiers.distillation import train_student, train_teacher
    from tckr.classifiers.models import build, load, save
    from tckr.classifiers.options import ClassifierOptions, DistillationOptions
    from tckr.classifiers.predict import accuracy, logits, soft_labels
    from tckr.classifiers.trainer import Trainer, TrainSpec

__all__ = [
    "ClassifierOptions",
    "DistillationOptions",
    "TrainSpec",
    "Trainer",
    "accuracy",
    "build",
    "load",
    "logits",
    "save",
    "soft_labels",
    "train_student",
    "train_teacher",
]

_MODULES = {
    "distillation": ("train_student", "train_teacher"),
    "models": ("build", "load", "save"),
    "options": ("ClassifierOptions", "DistillationOptions"),
    "predict": ("accuracy", "logits", "soft_labels"),
    "trainer": ("TrainSpec", "Trainer"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
