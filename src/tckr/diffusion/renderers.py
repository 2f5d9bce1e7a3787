"""Turn prompts into images: by a diffusers pipeline on this machine, or by an OpenAI-compatible image endpoint."""

import base64
import binascii
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tckr.diffusion.options import RendererOptions, SamplingOptions
from tckr.diffusion.sampling import stream
from tckr.engine.released import claim, public
from tckr.engine.remote import Ask, BadAnswerError, Remote
from tckr.engine.seeds import derive
from tckr.errors import UserError
from tckr.images.prepare import BadImageError, decode

logger = logging.getLogger(__name__)
BATCH = 64  # images of an endpoint that are yielded together
GREY = 128  # of an image that the endpoint declined to draw


class Renderer(Protocol):
    """Draws one image per prompt."""

    def render(
        self, prompts: Sequence[str], size: tuple[int, int], channels: int, seed: int
    ) -> Iterator[Tensor]:
        """Yield the images of prompts in batches, in order.

        Args:
            prompts: N prompts.
            size: height and width of the private images, pixels.
            channels: 1 for grey, 3 for colour.
            seed: of all noise.

        Returns:
            uint8 (B, channels, height, width), on any device; N in all.
        """


def renderer(
    options: RendererOptions,
    generator: str,
    sampling: SamplingOptions,
    device: str = "cpu",
    resolution: int | None = None,
) -> Renderer:
    """Return who draws, ready to.

    Args:
        options: pipeline, or endpoint.
        generator: folder or hub id of the pipeline; the base one, never one that was adapted to private images.
        sampling: how the pipeline draws.
        device: of the pipeline.
        resolution: side of the pipeline's images, pixels; None for its own.

    Raises:
        UserError: the generator cannot be loaded, or the endpoint cannot be asked.
    """
    if options.kind == "openai":
        return RemoteRenderer(options)
    from tckr.diffusion.pipeline import load

    return PipelineRenderer(load(generator, device, resolution), sampling)


class PipelineRenderer:
    """Draws with a diffusers pipeline on this machine."""

    def __init__(self, pipeline: Any, sampling: SamplingOptions) -> None:
        """Args: pipeline: as `diffusion.pipeline.load` returns it. sampling: solver, steps, guidance."""
        self._pipeline, self._sampling = pipeline, sampling

    def render(
        self, prompts: Sequence[str], size: tuple[int, int], channels: int, seed: int
    ) -> Iterator[Tensor]:
        """Yield the images of prompts in batches, in order; image i depends on the seed and i alone."""
        if prompts:
            yield from stream(self._pipeline, prompts, size, channels, self._sampling, seed)


class RemoteRenderer:
    """Draws with a model behind an OpenAI-compatible endpoint: /images/generations, one request an image.

    Which image a prompt gets is kept by (seed, prompt, how often it occurred before), so that drawing it again is free.
    """

    def __init__(self, options: RendererOptions) -> None:
        """Prepare to ask; nothing is sent yet.

        Raises:
            UserError: the extra is not installed, or no endpoint is named.
        """
        self._options = options
        self.remote: Remote[np.ndarray] = Remote(
            "/images/generations",
            options.endpoint,
            options.traffic,
            self._read,
            "renderer.endpoint",
        )

    def render(
        self,
        prompts: Sequence[str],
        size: tuple[int, int],
        channels: int,
        seed: int,
        start: int = 0,
    ) -> Iterator[Tensor]:
        """Yield the images of prompts in batches on the CPU, in order; grey ones for prompts that the endpoint declined.

        Args:
            start: number of the first image to yield; the same image as if all were drawn.

        Raises:
            UserError: a cap is reached, the endpoint cannot be used, or it declined too many.
            UnreleasedTextError: a prompt was never released.
        """
        drawn = self.remote.each(
            islice(self._asks(prompts, seed), start, None), "images", len(prompts) - start
        )
        batch: list[Tensor] = []
        declined = 0
        for pixels in drawn:
            if pixels is None:
                declined += 1
                self._check_declined(declined, len(prompts))
                batch.append(torch.full((channels, *size), GREY, dtype=torch.uint8))
            else:
                batch.append(fitted(torch.from_numpy(pixels), size, channels))
            if len(batch) == BATCH:
                yield torch.stack(batch)
                batch = []
        if batch:
            yield torch.stack(batch)
        if declined:
            logger.warning(
                "The endpoint declined to draw %s of %s prompts; they are grey images.",
                f"{declined:,}",
                f"{len(prompts):,}",
            )

    def _asks(self, prompts: Sequence[str], seed: int) -> Iterator[Ask]:
        before: Counter[str] = Counter()
        for prompt in claim(prompts):
            number = derive(seed, "image", prompt, before[prompt])
            before[prompt] += 1
            body: dict[str, Any] = {
                "prompt": prompt,
                "n": 1,
                **self._shape(),
            }
            if self._options.endpoint.seeded:
                body["seed"] = number
            yield Ask(body, number=number, images=1)

    def _shape(self) -> dict[str, str]:
        return {"size": public(self._options.size), "response_format": public("b64_json")}

    def _read(self, found: Any) -> np.ndarray:
        """Return the pixels of an answer, uint8 (H, W, 3).

        Raises:
            BadAnswerError: it holds no image, a damaged one, or one of too many pixels.
        """
        try:
            encoded = found["data"][0]["b64_json"]
        except (LookupError, TypeError):
            raise BadAnswerError(
                "no b64_json; where it gives addresses of images, those are not followed"
            ) from None
        try:
            content = base64.b64decode(encoded, validate=True)
            image, _ = decode(content, self._options.max_pixels, draft=self._options.max_pixels)
        except (binascii.Error, TypeError, ValueError):
            raise BadAnswerError("b64_json that is not base64") from None
        except BadImageError as error:
            raise BadAnswerError(f"a picture that cannot be read: {error}") from None
        return np.array(image.convert("RGB"))

    def _check_declined(self, declined: int, asked: int) -> None:
        if declined > self._options.tolerance * asked:
            raise UserError(
                f"The endpoint declined to draw {declined:,} of {asked:,} prompts.",
                "choose another model, other class names, or raise renderer.tolerance.",
            )


def fitted(pixels: Tensor, size: tuple[int, int], channels: int) -> Tensor:
    """Return the middle of an image, as large as wanted; grey is the mean of the three channels.

    Args:
        pixels: uint8 (H, W, 3).
        size: height and width wanted.
        channels: 1 or 3.

    Returns:
        uint8 (channels, height, width).

    >>> fitted(torch.full((64, 96, 3), 200, dtype=torch.uint8), (28, 28), 1).unique().tolist()
    [200]
    """
    image = pixels.permute(2, 0, 1).float()
    height, width = image.shape[1:]
    scale = min(height / size[0], width / size[1])
    tall, wide = (
        min(side, max(1, round(wanted * scale)))
        for side, wanted in zip((height, width), size, strict=True)
    )
    top, left = (height - tall) // 2, (width - wide) // 2
    middle = image[None, :, top : top + tall, left : left + wide]
    if channels == 1:
        middle = middle.mean(1, keepdim=True)
    resized = functional.interpolate(middle, size=size, mode="bilinear", antialias=True)
    return resized[0].round().clamp(0, 255).to(torch.uint8)
