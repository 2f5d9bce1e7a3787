"""Latents do not depend on the shards in which they are encoded."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tckr.diffusion import latents
from tckr.diffusion.latents import ImageEncoder, encode_images, stream_latents
from tckr.diffusion.pipeline import load, side
from tckr.engine import EngineOptions, use_engine

FolderOf = Callable[[str], Path]
IMAGES = torch.randint(
    0, 256, (11, 1, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


def test_a_shard_of_whole_batches_has_the_latents_of_the_whole(folder_of: FolderOf) -> None:
    pipeline = load(str(folder_of("sd2")))
    whole = torch.cat(list(encode_images(pipeline, IMAGES, True, 4)))
    encoder = ImageEncoder(pipeline.vae, side(pipeline), True, 4)
    with use_engine(EngineOptions(shard_pixels=2 * 4 * 16 * 16)):
        shards = latents.cut(encoder.count(IMAGES), encoder.side**2, 4)
    assert [len(shard) for shard in shards] == [8, 8, 6]  # the second has images of both kinds
    work = latents._Work(encoder, IMAGES)
    parts = [latents._encode_shard(shard, work) for shard in shards]
    assert torch.equal(torch.cat(parts), whole)


def test_few_images_are_encoded_here_whatever_there_is(
    folder_of: FolderOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latents, "resolve_workers", lambda: pytest.fail("workers were asked for"))
    pipeline = load(str(folder_of("sd2")))
    whole = torch.cat(list(encode_images(pipeline, IMAGES)))
    assert torch.equal(torch.cat(list(stream_latents(pipeline, IMAGES))), whole)
