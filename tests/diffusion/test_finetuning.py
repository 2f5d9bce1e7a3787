"""Snapshots of a fine-tuned denoiser: where they lie, what they hold, and that a killed training leaves the same ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from tckr.datasets.artefact import ArtefactDataset
from tckr.diffusion.finetuning import finetune
from tckr.diffusion.options import FinetuningOptions, SamplingOptions
from tckr.diffusion.pipeline import load
from tckr.diffusion.sampling import sample
from tckr.diffusion.snapshots import DenoiserWeights, Snapshots
from tckr.engine.checkpoint import Checkpoints
from tckr.errors import Paused, UserError
from tckr.options import Schedule

FolderOf = Callable[[str], Path]
STEPS = 6


@pytest.fixture(scope="module")
def images() -> Tensor:
    draw = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (7, 1, 16, 16), dtype=torch.uint8, generator=draw)


@pytest.fixture(scope="module")
def folder(folder_of: FolderOf) -> Path:
    return folder_of("sd2")


def options(folder: Path, **changed: Any) -> FinetuningOptions:
    schedule = Schedule(steps=STEPS, batch_size=4, learning_rate=1e-2, averaging=0.5)
    given = {"generator": str(folder), "schedule": schedule, "snapshots": 3, "flip": True}
    return FinetuningOptions(**{**given, "snapshot_dtype": "float32", **changed})


def fit(
    folder: Path, images: Tensor, unfinished: Checkpoints | None = None, **changed: Any
) -> tuple[Snapshots, pd.DataFrame]:
    names = [f"thing {i % 3}" for i in range(len(images))]
    chosen = options(folder, **changed)
    return finetune(load(str(folder)), images, names, chosen, seed=2, unfinished=unfinished)


@pytest.fixture(scope="module")
def snapshots(folder: Path, images: Tensor) -> Snapshots:
    return fit(folder, images)[0]


def same(left: DenoiserWeights, right: DenoiserWeights) -> bool:
    assert left.weights.keys() == right.weights.keys()
    return all(torch.equal(left.weights[name], right.weights[name]) for name in left.weights)


def test_every_weight_moves_from_snapshot_to_snapshot(folder: Path, snapshots: Snapshots) -> None:
    assert snapshots.steps == {0: 2, 1: 4, 2: 6}
    before = DenoiserWeights(dict(load(str(folder)).unet.named_parameters()))
    for one, other in ((before, snapshots.at(0)), (snapshots.at(0), snapshots.at(2))):
        still = [n for n in one.weights if torch.equal(one.weights[n].data, other.weights[n])]
        assert not still


def test_the_pipeline_is_left_as_it_was(folder: Path, images: Tensor) -> None:
    pipeline, names = load(str(folder)), ["a"] * len(images)
    before = {name: weight.clone() for name, weight in pipeline.unet.state_dict().items()}
    finetune(pipeline, images, names, options(folder), seed=0)
    after = pipeline.unet.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(weight.requires_grad for weight in pipeline.unet.parameters())


def test_a_training_that_ends_at_a_snapshot_makes_the_same_one(
    folder: Path, images: Tensor, snapshots: Snapshots
) -> None:
    alone, losses = fit(folder, images, snapshot=1)
    assert alone.numbers == [1]
    assert losses["step"].max() == 4
    assert same(alone.at(1), snapshots.at(1))


@pytest.mark.parametrize("stops", [1, 3, 5])
def test_a_training_that_was_killed_leaves_the_same_snapshots(
    folder: Path, images: Tensor, snapshots: Snapshots, tmp_path: Path, stops: int
) -> None:
    from tckr.engine.checkpoint import Checkpoint

    class Ends(Checkpoints):
        """Pauses the training once the state was due so many times."""

        def of(self, part: str) -> Checkpoint:
            path = super().of(part).path
            return (
                _Counted(path, every=0, deadline=None) if part == "denoiser" else Checkpoint(path)
            )

    class _Counted(Checkpoint):
        def save(self, fingerprint: dict[str, Any], state: dict[str, Any]) -> None:
            super().save(fingerprint, state)
            if state["done"] == stops:
                raise Paused("fine-tuning", stops, STEPS)

    with pytest.raises(Paused):
        fit(folder, images, Ends(tmp_path / "work"))
    resumed, losses = fit(folder, images, Checkpoints(tmp_path / "work"))
    assert all(same(resumed.at(n), snapshots.at(n)) for n in snapshots.numbers)
    assert len(losses) == STEPS


def test_a_snapshot_that_vanished_is_not_made_up(
    folder: Path, images: Tensor, tmp_path: Path
) -> None:
    work = Checkpoints(tmp_path / "work")
    fit(folder, images, work)
    work.of("snapshot_0").path.unlink()
    with pytest.raises(UserError, match="no longer there"):
        fit(folder, images, work)


def test_from_scratch_nothing_of_the_downloaded_denoiser_is_used(
    folder: Path, images: Tensor
) -> None:
    pipeline, names = load(str(folder)), ["a"] * len(images)
    chosen = options(folder, start="scratch", snapshots=1)
    first, _ = finetune(pipeline, images, names, chosen, seed=0)
    for weight in pipeline.unet.parameters():
        weight.data.add_(1.0)
    second, _ = finetune(pipeline, images, names, chosen, seed=0)
    assert same(first.at(0), second.at(0))
    other, _ = finetune(pipeline, images, names, chosen, seed=1)
    assert not same(first.at(0), other.at(0))


def test_a_snapshot_draws_its_own_images(folder: Path, snapshots: Snapshots) -> None:
    def drawn(pipeline: Any) -> Tensor:
        plain = SamplingOptions(steps=2, guidance_scale=1.0)
        return sample(pipeline, ["thing 1"] * 2, (16, 16), 1, plain, 0)

    base = drawn(load(str(folder)))
    first, last = (drawn(snapshots.at(n).apply(load(str(folder)))) for n in (0, None))
    assert not torch.equal(base, first)
    assert not torch.equal(first, last)
    assert torch.equal(last, drawn(snapshots.apply(load(str(folder)))))


def test_snapshots_are_stored_and_read_again(snapshots: Snapshots, tmp_path: Path) -> None:
    catalog = ArtefactDataset(filepath=str(tmp_path / "snapshots"))
    catalog.save(snapshots)
    read = catalog.load()
    assert read.steps == snapshots.steps
    assert all(same(read.at(n), snapshots.at(n)) for n in snapshots.numbers)
    (tmp_path / "snapshots" / "denoiser_1.safetensors").write_bytes(b"cut")
    with pytest.raises(UserError, match="cannot be read"):
        Snapshots.load(tmp_path / "snapshots")


def test_what_does_not_fit_is_refused(folder_of: FolderOf, snapshots: Snapshots) -> None:
    with pytest.raises(UserError, match="no snapshot 7"):
        snapshots.at(7)
    other = load(str(folder_of("xl")))
    with pytest.raises(UserError, match="has shape"):
        snapshots.apply(other)


def test_weights_that_half_precision_cannot_hold_are_refused(folder: Path, images: Tensor) -> None:
    wild = Schedule(steps=2, batch_size=4, learning_rate=1e6, warmup=0)
    with pytest.raises(UserError, match=r"not finite in float16|diverged"):
        fit(folder, images, schedule=wild, snapshots=1, snapshot_dtype="float16")


def test_a_snapshot_beyond_the_last_is_refused(folder: Path) -> None:
    with pytest.raises(ValidationError, match="numbered from 0"):
        options(folder, snapshot=3)
    with pytest.raises(ValidationError, match="more snapshots than"):
        options(folder, snapshots=STEPS + 1)
