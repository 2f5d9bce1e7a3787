"""What the shadows of an audit repeat: the audited images, the recipe, and what their students learn from."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tckr.audit import attacker
from tckr.audit.options import AttackerOptions
from tckr.audit.resynthesis import OwnTeacher, Resynthesis
from tckr.classifiers.options import (
    SCATTERING,
    ClassifierOptions,
    DistillationOptions,
    LabelSource,
)
from tckr.engine.rows import PART, Shared
from tckr.errors import UserError
from tckr.synthesizers.private_set import SyntheticSet

HEADS = 8  # shadows whose heads are fitted at once, and are lost together if a run is killed


@dataclass(frozen=True)
class StudentConfig:
    """What one student of a shadow group learns from.

    Attributes:
        pool: name of the synthetic images.
        labels: the teacher's (on_the_fly, stored) or those of the prompts (hard).
        size: how many of the images, the first ones; None: all.
        attacker: trained as by somebody who holds the set alone; see `tckr.audit.attacker`.
    """

    pool: str
    labels: LabelSource
    size: int | None = None
    attacker: bool = False


@dataclass(frozen=True)
class ShadowConfig:
    """What one shadow group repeats: the audited examples, the recipe, and what students learn from.

    Attributes:
        images: uint8 (N, C, H, W), members and holdout.
        labels: int64 (N,).
        n_classes: C.
        steps: optimizer steps of the target, `classifier.steps(number of members)`.
        members: of the target; a shadow's teacher takes as many steps for each of its own images. None: as many as a shadow's.
        classifier: recipe of teacher and students.
        distillation: of the students; each plan names its own labels.
        seed: of the run; the shadows' own seeds are derived from it.
        students: by name; the students of a group differ in what they learn from, not in their seed.
        pools: synthetic images that all shadows share, as released.
        resynthesis: makes further pools, again for each shadow (scope `pipeline`).
        own_teacher: trains the teachers of an arm that does not take the classifier's recipe for them.
        queries: views of every audited image with which a model is queried; see `signals.query_views`.
        weights_queries: views with which a student is queried whose weights the attacker holds; 0: it has no such row.
        attacker: how the attacker's own student is trained.
        views: of each synthetic image, whose labels are stored with a set.
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
    students: Mapping[str, StudentConfig] = field(default_factory=dict)
    pools: Mapping[str, SyntheticSet] = field(default_factory=dict)
    resynthesis: Resynthesis | None = None
    own_teacher: OwnTeacher | None = None
    queries: int = 1
    weights_queries: int = 0
    views: int = 1
    members: int | None = None
    attacker: AttackerOptions = field(default_factory=AttackerOptions)
    device: str = "cpu"
    stack: int = 1

    @property
    def plans(self) -> list[StudentConfig]:
        """Return each student once: two names may stand for the same, which is trained once."""
        return list(dict.fromkeys(self.students.values()))

    def alike(self, plan: StudentConfig) -> bool:
        """Whether a student has nothing from its shadow's teacher: hard labels, of images that all shadows share."""
        return self.resynthesis is None and plan.labels == "hard"

    def distillation_of(self, plan: StudentConfig) -> DistillationOptions:
        """Return the students' distillation with the labels of one of them, or the attacker's."""
        if plan.attacker:
            return attacker.distillation(plan.labels, self.views, self.attacker)
        return self.distillation.model_copy(update={"labels": plan.labels})

    def classifier_of(self, plan: StudentConfig) -> ClassifierOptions:
        """Return the students' recipe, or the attacker's."""
        if plan.attacker:
            return attacker.recipe(self.classifier, plan.labels, self.views, self.attacker)
        return self.classifier

    def steps_of(self, shadow_images: int) -> int:
        """Return the steps of a shadow's teacher, which sees each image as often as the target's teacher did.

        Shadows differ by some images by chance: within a twentieth the number is the target's own.
        """
        if self.members is None or abs(shadow_images - self.members) <= self.members / 20:
            return self.steps
        return max(1, round(self.steps * shadow_images / self.members))

    def side_by_side(self, shadows: int, workers: int) -> int:
        """Return how many shadows a worker trains at once, none of them idle: as many as a GPU is to take.

        Heads in closed form share the features of all images, which are most of their work, on a CPU too. In scope
        `pipeline` a pool belongs to one shadow, so that shadows cannot share a device's images.

        >>> import torch
        >>> images, labels = torch.zeros(2, 1, 8, 8).byte(), torch.zeros(2).long()
        >>> heads = ClassifierOptions(architecture="scattering")
        >>> config = ShadowConfig(images, labels, 2, 1, heads, DistillationOptions(), 0)
        >>> [config.side_by_side(shadows, workers=2) for shadows in (4, 8, 64)]
        [2, 4, 8]
        """
        if self.resynthesis is not None:
            return 1
        most = max(self.stack, HEADS) if self.classifier.architecture == SCATTERING else self.stack
        return max(1, min(most, -(-shadows // max(1, workers))))

    def fingerprint(self) -> str:
        """Return 32 hexadecimal digits that change with anything that changes a shadow's scores on this device."""
        tensors = [self.images, self.labels]
        for name in sorted(self.pools):
            tensors += [self.pools[name].images, self.pools[name].labels]
        recipe = (self.n_classes, self.steps, self.classifier, self.distillation, self.seed)
        plans = sorted(self.students.items())
        asked = (self.queries, self.weights_queries, self.views, self.members, self.attacker)
        ways = (self.resynthesis, self.own_teacher, *asked, self.device)
        return _digest(tensors, (sorted(self.pools), recipe, plans, *ways))

    def teachers_fingerprint(self) -> str:
        """Return 32 hexadecimal digits that change with anything that changes a teacher of the classifier's recipe."""
        recipe = (self.n_classes, self.steps, self.members, self.classifier, self.seed, self.device)
        return _digest([self.images, self.labels], recipe)

    def in_files(self) -> "ShadowConfig":
        """Return the same for other processes: its images travel as files that all of them map."""
        pools = {n: pool._replace(images=Shared(pool.images)) for n, pool in self.pools.items()}  # type: ignore[arg-type]
        return replace(self, images=Shared(self.images), pools=pools)  # type: ignore[arg-type]

    def check(self, membership: NDArray[np.bool_]) -> None:
        """Check that the matrix bool (S, N) is of these examples, before the hours are spent.

        Raises:
            UserError: the matrix is of other data, a class is absent in a shadow, or a student asks
                for images that are not there.
        """
        n = len(self.images)
        if membership.ndim != 2 or membership.shape[1] != n or len(self.labels) != n:
            raise UserError(
                f"The membership matrix {membership.shape} is not of these {n} examples.",
                "draw it again for this data.",
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

    def _check_student(self, name: str, plan: StudentConfig) -> None:
        made = self.resynthesis.closed if self.resynthesis else {}
        if plan.pool in self.pools:
            available = len(self.pools[plan.pool].images)
        elif self.resynthesis is not None and plan.pool in made:
            available = self.resynthesis.count
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


def _digest(tensors: Sequence[Tensor], about: object) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(str(tuple(tensor.shape)).encode())
        for part in tensor.split(PART):
            digest.update(part.contiguous().numpy().data)
    digest.update(repr(about).encode())
    return digest.hexdigest()[:32]
