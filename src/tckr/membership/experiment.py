"""What every shadow of an audit repeats: the audited examples, the recipe, and what students learn from."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tckr.classifiers.options import ClassifierOptions, DistillationOptions, LabelSource
from tckr.errors import UserError
from tckr.membership.recycling import Pool, Recycling


@dataclass(frozen=True)
class StudentPlan:
    """What one student of a shadow group learns from.

    Attributes:
        pool: name of the synthetic images.
        labels: the teacher's (on_the_fly, stored) or those of the prompts (hard).
        size: how many of the images, the first ones; None: all.
    """

    pool: str
    labels: LabelSource
    size: int | None = None


@dataclass(frozen=True)
class Experiment:
    """What one shadow group needs.

    Attributes:
        images: uint8 (N, C, H, W), members and holdout.
        labels: int64 (N,).
        n_classes: C.
        steps: optimiser steps of the target, `classifier.steps(number of members)`.
        classifier: recipe of teacher and students.
        distillation: of the students; each plan names its own labels.
        seed: of the run; the shadows' own seeds are derived from it.
        students: by name; the students of a group differ in what they learn from, not in their seed.
        pools: synthetic images that all shadows share, as released.
        recycling: makes further pools, anew for each shadow (scope `pipeline`).
        queries: views of every audited image that a model is asked for; see `signals.query_views`.
        device: where shadows are trained.
        stack: networks that a GPU trains side by side.
    """

    images: Tensor
    labels: Tensor
    n_classes: int
    steps: int
    classifier: ClassifierOptions
    distillation: DistillationOptions
    seed: int
    students: Mapping[str, StudentPlan] = field(default_factory=dict)
    pools: Mapping[str, Pool] = field(default_factory=dict)
    recycling: Recycling | None = None
    queries: int = 1
    device: str = "cpu"
    stack: int = 1

    def distillation_of(self, plan: StudentPlan) -> DistillationOptions:
        """The students' distillation with the labels of one of them."""
        return self.distillation.model_copy(update={"labels": plan.labels})

    def fingerprint(self) -> str:
        """32 hexadecimal digits that change with anything that changes a shadow's scores on this device."""
        digest = hashlib.sha256()
        tensors = [self.images, self.labels]
        for name in sorted(self.pools):
            digest.update(name.encode())
            tensors += [self.pools[name].images, self.pools[name].labels]
        for tensor in tensors:
            digest.update(str(tuple(tensor.shape)).encode())
            digest.update(tensor.contiguous().numpy().data)
        recipe = (self.n_classes, self.steps, self.classifier, self.distillation, self.seed)
        plans = sorted(self.students.items())
        digest.update(repr((recipe, plans, self.recycling, self.queries, self.device)).encode())
        return digest.hexdigest()[:32]

    def check(self, membership: NDArray[np.bool_]) -> None:
        """See that the matrix bool (S, N) is of this experiment, before the hours are spent.

        Raises:
            UserError: the matrix is of other data, a class is absent in a shadow, or a student asks
                for images that are not there.
        """
        n = len(self.images)
        if membership.ndim != 2 or membership.shape[1] != n or len(self.labels) != n:
            raise UserError(
                f"The membership matrix {membership.shape} is not of these {n} examples.",
                "draw it anew for this data.",
            )
        for name, plan in self.students.items():
            self._check_student(name, plan)
        labels = self.labels.numpy()
        present = np.unique(labels)
        for number, row in enumerate(membership):
            absent = np.setdiff1d(present, labels[row])
            if len(absent):
                raise UserError(
                    f"Shadow {number} would train without class {absent[0]}.",
                    "audit with more examples of it, or leave the class out.",
                )

    def _check_student(self, name: str, plan: StudentPlan) -> None:
        made = self.recycling.cells if self.recycling else {}
        if plan.pool in self.pools:
            available = len(self.pools[plan.pool].images)
        elif self.recycling is not None and plan.pool in made:
            available = self.recycling.count
        else:
            raise UserError(
                f"Student {name} reads {plan.pool}, which nobody makes.",
                f"choose of {', '.join([*self.pools, *made])}.",
            )
        if plan.size is not None and not 1 <= plan.size <= available:
            raise UserError(
                f"A student cannot read {plan.size} of {available} synthetic images.",
                "make more of them, or train on fewer.",
            )
