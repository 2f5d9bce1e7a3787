"""Latents of images, as the denoiser is trained on them: encoded once, in this process or by whoever is free.

The mean of the autoencoder's posterior, scaled (Rombach et al. 2022, arXiv 2112.10752, appendix G): its spread is small beside it.
Nothing is drawn at random, and shards are whole batches (`tckr.engine.cut`), so that who encodes changes no latent.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tckr.diffusion.frames import to_frame
from tckr.diffusion.memory import BatchSize, autoencoder_batch_size
from tckr.diffusion.pipeline import Generator, side
from tckr.engine import cut, durable, resolve_workers, stream_shards
from tckr.engine.content import content_hash
from tckr.engine.device import best
from tckr.engine.rows import Shared
from tckr.images.tensors import to_signed

if TYPE_CHECKING:
    from tckr.engine.checkpoint import Checkpoints

BATCH = 256  # images encoded at once, at most


def encode_images(
    pipeline: Generator, images: Tensor, mirror: bool = False, batch_size: int = BATCH
) -> Iterator[Tensor]:
    """Encode images of any size in this process and yield their scaled latents, `batch_size` at a time, in order.

    Args:
        pipeline: as `tckr.diffusion.pipeline.load` returns it.
        images: uint8 (N, 1 or 3, H, W), on any device.
        mirror: after all of them, give them flipped left to right: 2 N in all.

    Yields:
        (batch_size, C, h, w) in the autoencoder's dtype and on its device.
    """
    encoder = ImageEncoder(pipeline.vae, side(pipeline), mirror, batch_size)
    return encoder.encode(images, range(encoder.count(images)))


def stream_latents(
    pipeline: Generator, images: Tensor, mirror: bool = False, batch_size: int = BATCH
) -> Iterator[Tensor]:
    """Yield the latents of `encode_images`; of many images, several GPUs or the workers of a cluster encode shards.

    What a cluster has encoded is found again by a run that was killed meanwhile.

    Args:
        images: uint8 (N, 1 or 3, H, W), on the CPU.

    Raises:
        ShardError: a shard failed; its cause says why.
    """
    encoder = ImageEncoder(pipeline.vae, side(pipeline), mirror, batch_size)
    count = encoder.count(images)
    shards = cut(count, encoder.side**2, batch_size)
    workers, devices = resolve_workers() if len(shards) > 1 else (1, [])
    if workers < 2:
        yield from encoder.encode(images, range(count))
        return
    work = _Work(encoder, images)
    keep = _unfinished(work)
    encoded = stream_shards(
        _encode_shard, shards, workers, "latents", shared=work, devices=devices, keep=keep
    )
    for part in encoded:
        yield from part.to(pipeline.device).split(batch_size)
    if keep:
        keep.remove()


def to_latents(pipeline: Generator, frames: Tensor, batch_size: int = BATCH) -> Tensor:
    """Encode signed images to scaled latents.

    Args:
        frames: float (N, 3, side, side) in [-1, 1].

    Returns:
        (N, C, h, w) in the autoencoder's dtype, on its device.
    """
    return torch.cat([_encode(pipeline.vae, part) for part in frames.split(batch_size)])


@dataclass(frozen=True)
class ImageEncoder:
    """Encodes images by their numbers; with `mirror`, number N + i is image i flipped left to right.

    Attributes:
        vae: the generator's autoencoder.
        side: of the images as it reads them, pixels.
        mirror: whether there are flipped ones.
        batch_size: images at once, at most.
    """

    vae: Any
    side: int
    mirror: bool = False
    batch_size: int = BATCH

    def count(self, images: Tensor) -> int:
        """Return how many latents there are of these images."""
        return len(images) * (2 if self.mirror else 1)

    def encode(self, images: Tensor, numbers: range) -> Iterator[Tensor]:
        """Yield scaled latents, `batch_size` at a time; the numbers begin with those of a batch.

        Args:
            images: all of them, uint8 (N, 1 or 3, H, W), on any device.
            numbers: which.
        """
        fits = BatchSize(autoencoder_batch_size(self.side, self.batch_size))
        for start in numbers[:: self.batch_size]:
            batch = range(start, min(start + self.batch_size, numbers.stop))
            yield torch.cat(list(fits.over(batch, partial(self._encode, images))))

    def _encode(self, images: Tensor, numbers: range) -> Tensor:
        count, device = len(images), self.vae.device
        wanted = torch.arange(numbers.start, numbers.stop)
        frames = to_signed(to_frame(images[wanted % count].to(device), self.side))
        flipped = (wanted >= count).to(device)[:, None, None, None]
        return _encode(self.vae, torch.where(flipped, frames.flip(3), frames))


@torch.no_grad()
def _encode(vae: Any, frames: Tensor) -> Tensor:
    latents: Tensor = vae.encode(frames.to(vae.device, vae.dtype)).latent_dist.mean
    return latents * vae.config.scaling_factor


@dataclass(frozen=True)
class _Work:
    """What all shards read; other processes map the images."""

    encoder: ImageEncoder
    images: Tensor

    @cached_property
    def _sent(self) -> Shared:
        return Shared(self.images)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Work, (self.encoder, self._sent)


def _encode_shard(numbers: range, work: _Work) -> Tensor:
    """Return the latents of these numbers, on the CPU."""
    best()  # a worker starts with torch's own settings, under which equal images may come out unequal
    return torch.cat([part.cpu() for part in work.encoder.encode(work.images, numbers)])


def _unfinished(work: _Work) -> "Checkpoints | None":
    """Return where the workers of a cluster keep latents that nobody has used yet."""
    if durable("") is None:
        return None
    encoder = work.encoder
    images = [content_hash(part) for part in work.images.split(BATCH)]
    weights = dict(encoder.vae.state_dict())
    return durable(content_hash(weights, encoder.side, encoder.mirror, encoder.batch_size, images))
