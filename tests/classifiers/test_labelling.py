"""The labels of many encoded images do not depend on their shards, and are not made twice."""

from pathlib import Path

import pytest
import torch

from tckr.classifiers import labelling
from tckr.classifiers.fixed_views import labels_of_views
from tckr.classifiers.labelling import labels_of_encoded, soft_labels_of, unfinished_labels
from tckr.classifiers.options import AugmentationOptions
from tckr.classifiers.predict import soft_labels
from tckr.classifiers.resnet import ResNet
from tckr.engine import EngineOptions, use_engine
from tckr.images.encoded import EncodedImages
from tckr.images.stores import Heap
from tckr.images.tensors import to_png

COUNT = 1100  # two shards of a step each, of 16 x 16 pixels
SHARDS = EngineOptions(
    shard_pixels=1
)  # the shortest: a step of the batches that are decoded at once
PIXELS = torch.randint(
    0, 256, (COUNT, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
LIMITS = AugmentationOptions(shift=2)


@pytest.fixture(scope="module")
def teacher() -> ResNet:
    torch.manual_seed(0)
    return ResNet(1, 3, (8, 16), 1).eval()


def test_labels_do_not_depend_on_the_shards(teacher: ResNet) -> None:
    images = to_png(PIXELS)
    with use_engine(SHARDS):
        plain, viewed = (
            soft_labels_of(teacher, images),
            labels_of_encoded(teacher, images, 2, LIMITS),
        )
    assert torch.equal(plain, soft_labels(teacher, PIXELS))
    assert torch.equal(viewed, labels_of_views(teacher, PIXELS, 2, LIMITS))


def test_a_killed_labelling_goes_on_where_it_stood(
    teacher: ResNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, ids = to_png(PIXELS), [str(row) for row in range(COUNT)]
    label_shard, begun = labelling._label_shard, []

    def label(rows: range, work: labelling._Work) -> torch.Tensor:
        begun.append(rows.start)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return label_shard(rows, work)

    monkeypatch.setattr(labelling, "_label_shard", label)
    keep = unfinished_labels(teacher, ids, str(tmp_path))
    assert keep is not None
    with use_engine(SHARDS):
        with pytest.raises(KeyboardInterrupt):
            soft_labels_of(teacher, images, keep)
        again = soft_labels_of(teacher, images, unfinished_labels(teacher, ids, str(tmp_path)))
    assert begun == [0, 1024, 1024]
    assert torch.equal(again, soft_labels(teacher, PIXELS))
    keep.remove()
    assert not list(tmp_path.iterdir())


def test_few_images_leave_nothing_on_the_disk(teacher: ResNet, tmp_path: Path) -> None:
    keep = unfinished_labels(teacher, ["a", "b"], str(tmp_path))
    soft_labels_of(teacher, to_png(PIXELS[:2]), keep)
    assert not list(tmp_path.iterdir())


def test_other_labels_are_kept_apart(teacher: ResNet, tmp_path: Path) -> None:
    def folder(*work: object) -> Path:
        keep = unfinished_labels(*work[:1], list(work[1]), str(tmp_path), *work[2:])
        assert keep is not None
        return keep.folder

    other = ResNet(1, 3, (8, 16), 1)
    works = [(teacher, "ab"), (teacher, "ba"), (other, "ab"), (teacher, "ab", 2)]
    assert len({folder(*work) for work in works}) == len(works)
    assert folder(teacher, "ab") == folder(teacher, "ab")
    assert unfinished_labels(teacher, ["a"], None) is None


def test_images_that_no_other_process_can_read_are_labelled_here(
    teacher: ResNet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TCKR_SCRATCH", str(tmp_path))
    monkeypatch.setattr(labelling, "resolve_workers", lambda: pytest.fail("workers were asked for"))
    heap = Heap()
    for png in to_png(PIXELS):
        heap.append(png)
    with use_engine(SHARDS):
        found = soft_labels_of(teacher, EncodedImages.of(heap, COUNT))
    assert torch.equal(found, soft_labels(teacher, PIXELS))
