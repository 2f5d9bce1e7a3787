"""The teacher's soft labels of encoded images, in shards that any worker makes.

A label depends on the image, the teacher and the batch alone, and shards are whole batches (`tckr.engine.cut`): the labels are the
same in this process, in several, and on a cluster of equal devices.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tckr.classifiers.fixed_views import labels_of_views
from tckr.classifiers.options import AugmentationOptions
from tckr.classifiers.predict import soft_labels, usual_batch
from tckr.engine import cut, durable, resolve_workers, stream_shards
from tckr.engine.content import content_hash
from tckr.engine.device import best
from tckr.images.encoded import EncodedImages
from tckr.images.tensors import to_tensor

if TYPE_CHECKING:
    from tckr.engine.checkpoint import Checkpoints

BATCHES = 4  # of encoded images that are decoded at once
VIEWED = 256  # images at once of which several views are labelled


def soft_labels_of(
    model: nn.Module, images: Sequence[bytes], keep: "Checkpoints | None" = None
) -> Tensor:
    """Return the class probabilities of encoded images, of which a few batches are decoded at a time.

    Args:
        model: as for `tckr.classifiers.predict.logits`.
        images: PNGs of one size and mode; a slice of them has the same type (the array of a table's column).
        keep: where the labels of each of several shards are kept, see `unfinished_labels`. The caller removes them.

    Returns:
        float32 (N, n_classes), equal to those of all images decoded at once.

    Raises:
        ShardError: a shard failed; its cause says why.
    """
    first = to_tensor(images[:1])
    batch = usual_batch(next(model.parameters()).device, first)
    return _labels(_Work(model, images, first.shape[1], batch), first, keep)


def labels_of_encoded(
    teacher: nn.Module,
    images: Sequence[bytes],
    count: int,
    options: AugmentationOptions,
    keep: "Checkpoints | None" = None,
) -> Tensor:
    """Return `labels_of_views` of PNGs of one size and mode, float32 (N, count, n_classes).

    Args:
        teacher: as for `labels_of_views`, as `count` and `options`.
        images: as for `soft_labels_of`, as `keep`.
    """
    first = to_tensor(images[:1])
    return _labels(_Work(teacher, images, first.shape[1], VIEWED, count, options), first, keep)


def unfinished_labels(
    teacher: nn.Module, image_ids: Sequence[str], folder: str | None, *recipe: object
) -> "Checkpoints | None":
    """Return where the labels of some images are kept, so that a run which is killed while it labels goes on.

    Args:
        teacher: whose labels they are.
        image_ids: of the images, hashes of their pixels.
        folder: of unfinished work on this machine; on a cluster the engine's storage takes its place.
        recipe: what else decides the labels.
    """
    images = content_hash("\n".join(image_ids))
    return durable(content_hash("labels", dict(teacher.state_dict()), images, *recipe), folder)


@dataclass(frozen=True)
class _Work:
    """What all shards read: other processes read the images from their files.

    Attributes:
        model: on its device.
        images: PNGs.
        channels: of the images.
        batch: images that are labelled at once.
        views: labels an image, one for each of its first fixed views; None: of the image itself.
        augmentation: limits of the views.
    """

    model: nn.Module
    images: Sequence[bytes]
    channels: int
    batch: int
    views: int | None = None
    augmentation: AugmentationOptions | None = None

    def label(self, pixels: Tensor) -> Tensor:
        if self.views is None or self.augmentation is None:
            return soft_labels(self.model, pixels, self.batch)
        return labels_of_views(self.model, pixels, self.views, self.augmentation, self.batch)


def _labels(work: _Work, first: Tensor, keep: "Checkpoints | None") -> Tensor:
    """Gather the labels of all shards as they come."""
    count = len(work.images)
    shards = cut(count, first.shape[-2] * first.shape[-1], work.batch * BATCHES)
    several = len(shards) > 1
    workers, devices = resolve_workers() if several and _travel(work.images) else (1, [])
    made = stream_shards(
        _label_shard,
        shards,
        max(1, workers),
        "soft labels",
        shared=work,
        devices=devices,
        keep=keep if several else None,
    )
    labels = torch.empty(0)
    for rows, part in zip(shards, made, strict=True):
        if not rows.start:
            labels = part.new_empty(count, *part.shape[1:])
        labels[rows.start : rows.stop] = part
    return labels


def _label_shard(rows: range, work: _Work) -> Tensor:
    """Return the labels of some images, on the CPU."""
    best()  # a worker starts with torch's own settings, under which equal images may get unequal labels
    step = BATCHES * work.batch
    parts = []
    for start in rows[::step]:
        few = work.images[start : min(start + step, rows.stop)]
        parts.append(work.label(to_tensor(few, work.channels)))
    return torch.cat(parts)


def _travel(images: object) -> bool:
    """Whether other processes can read the images where they lie; sending them would hold all in memory."""
    return not isinstance(images, EncodedImages) or images.named
