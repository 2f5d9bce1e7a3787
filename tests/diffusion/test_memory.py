"""Batches shrink when memory runs out, and images do not depend on them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tckr.diffusion.latents import encode_images
from tckr.diffusion.memory import (
    BatchSize,
    autoencoder_batch_size,
    cache_rows,
    evenly,
    scratch,
)
from tckr.diffusion.options import SamplingOptions
from tckr.diffusion.pipeline import load
from tckr.diffusion.sampling import sample
from tckr.errors import UserError

FolderOf = Callable[[str], Path]


def limit(network: torch.nn.Module, most: int) -> list[int]:
    """Let `network` run out of memory beyond `most` images; returns the sizes that it took, as they come."""
    sizes: list[int] = []

    def before(_: Any, arguments: tuple[Any, ...]) -> None:
        if len(arguments[0]) > most:
            raise torch.OutOfMemoryError("out of memory")
        sizes.append(len(arguments[0]))

    network.register_forward_pre_hook(before)
    return sizes


def draw(pipeline: Any, count: int = 9, **options: Any) -> torch.Tensor:
    chosen = SamplingOptions(**{"steps": 2, "guidance_scale": 1, **options})
    return sample(pipeline, [f"thing {i}" for i in range(count)], (16, 16), 3, chosen, seed=5)


def test_a_batch_halves_until_it_fits_and_goes_on(folder_of: FolderOf) -> None:
    folder = str(folder_of("sd2"))
    small = load(folder)
    denoised, decoded = limit(small.unet, 3), limit(small.vae.decoder, 2)
    drawn = draw(small, batch_size="auto")
    # 9, 5, 3; three images at a time from there, none of them twice.
    assert denoised == [3] * 6
    assert decoded == [2, 1] * 3
    assert (drawn.int() - draw(load(folder), batch_size=9).int()).abs().max() <= 1


def test_a_single_image_that_does_not_fit_is_the_users_to_solve(folder_of: FolderOf) -> None:
    pipeline = load(str(folder_of("sd2")))
    limit(pipeline.unet, 0)
    with pytest.raises(UserError, match="not enough memory for a single image"):
        next(BatchSize(4).over(range(4), pipeline.unet))


def test_what_is_stored_meanwhile_lies_in_the_scratch_folder_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TCKR_SCRATCH", str(tmp_path / "of_run"))
    with scratch() as folder:
        assert folder.parent == tmp_path / "of_run"
        cache_rows([{"x": torch.ones(3)}], 3, 0, folder / "rows")
    assert not folder.exists()


@pytest.mark.parametrize("scheduler", ["as_downloaded", "euler_ancestral"])
def test_an_image_is_the_same_in_every_batch(scheduler: str, folder_of: FolderOf) -> None:
    pipeline = load(str(folder_of("sd1")))
    whole = draw(pipeline, 9, scheduler=scheduler, batch_size=8)
    for size in (1, 3):
        other = draw(pipeline, 9, scheduler=scheduler, batch_size=size)
        assert (whole.int() - other.int()).abs().max() <= 1
    # Nor does a longer request change its beginning, across the blocks in which noise is drawn.
    longer = draw(pipeline, 70, scheduler=scheduler, batch_size=33)
    assert (whole.int() - longer[:9].int()).abs().max() <= 1
    assert len({image.numpy().tobytes() for image in longer}) == 70


@pytest.mark.parametrize(("count", "size", "even"), [(10, 8, 5), (16, 8, 8), (3, 8, 3), (17, 8, 6)])
def test_batches_are_even(count: int, size: int, even: int) -> None:
    assert evenly(count, size) == even


def test_an_autoencoder_reads_fewer_of_large_images(folder_of: FolderOf) -> None:
    assert [autoencoder_batch_size(side, 256) for side in (32, 256, 512, 1024, 9000)] == [
        256,
        256,
        64,
        16,
        1,
    ]
    pipeline = load(str(folder_of("sd2")))
    images = torch.randint(0, 256, (7, 3, 16, 16), dtype=torch.uint8)
    whole = torch.cat(list(encode_images(pipeline, images, batch_size=5)))
    sizes = limit(pipeline.vae.encoder, 2)
    parts = list(encode_images(pipeline, images, batch_size=5))
    assert [len(part) for part in parts] == [5, 2]
    assert sizes == [2, 2, 1, 2]
    torch.testing.assert_close(torch.cat(parts), whole)
