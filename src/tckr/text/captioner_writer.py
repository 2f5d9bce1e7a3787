"""Write the captions of one batch: prepare the images, generate greedily, read the tokens."""

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import BatchFeature

from tckr.errors import UserError
from tckr.images.tensors import to_pil
from tckr.overlap import to_host
from tckr.text.captioner_greedy import Greedy, suits
from tckr.text.captioner_pixels import Pixels, recipe
from tckr.text.options import CaptionOptions

# Kinds (model_type) that caption an image without a word of text.
PROMPTLESS = {"blip", "blip-2", "git"}


class Batch(NamedTuple):
    """Images made ready by a worker thread.

    Attributes:
        images: uint8 (B, 1 or 3, H, W).
        features: what the model reads, made by the processor image by image; None where that is done on the device.
    """

    images: Tensor
    features: BatchFeature | None


class Writer:
    """Captions batches of images with one model, processor and prompt."""

    def __init__(self, model: Any, processor: Any, options: CaptionOptions) -> None:
        """Find out how to prepare images.

        Raises:
            UserError: the model needs a prompt and has none.
        """
        self.model, self.processor, self.options = model, processor, options
        self.dtype = weights_dtype(model)
        self.limit = options.batch_size
        self.text = self._wording()
        self._pixels, self._beside = self._recipe()
        quick = self._pixels and model.device.type == "cuda" and suits(model)
        self._greedy = self._quick() if quick else None

    def prepare(self, images: Tensor) -> Batch:
        """Do what the processor for uint8 (B, 1 or 3, H, W) can do only on the CPU; safe in any thread."""
        if not self._pixels:
            return Batch(images, self._features(images))
        on_gpu = self.model.device.type == "cuda"
        return Batch(images.pin_memory() if on_gpu else images, None)

    def write(self, batch: Batch) -> list[str]:
        """B captions; see `start`."""
        return self.start(batch)()

    @torch.inference_mode()
    def start(self, batch: Batch) -> Callable[[], list[str]]:
        """Begin the B captions that the call of the result waits for; a GPU writes them meanwhile.

        A batch that does not fit on the device is halved, and later ones are cut to what did fit.

        Raises:
            UserError: not even one image fits.
        """
        images, features = batch
        if len(images) <= self.limit:
            try:
                tokens = to_host(self._generate(images, features))
                return lambda: list(self.processor.batch_decode(tokens(), skip_special_tokens=True))
            except torch.OutOfMemoryError:
                if len(images) == 1:
                    raise UserError(
                        "The captioner does not fit on the device with one image.",
                        "choose a smaller captioning.captioner, or captioning.dtype: bfloat16.",
                    ) from None
                self.limit = (len(images) + 1) // 2
            torch.cuda.empty_cache()  # outside the handler, whose traceback holds tensors
        parts = [self.start(self.prepare(part)) for part in images.split(self.limit)]
        return lambda: [text for part in parts for text in part()]

    def _generate(self, images: Tensor, features: BatchFeature | None) -> Tensor:
        """Tokens behind the prompt, int64 (B, n)."""
        device, dtype = self.model.device, self.dtype
        if features is not None:
            inputs = dict(features.to(device, dtype))
        else:
            assert self._pixels is not None
            colour = images.to(device, non_blocking=True).expand(-1, 3, -1, -1)
            pixels = self._pixels(colour, dtype)
            if self._greedy:
                return self._greedy(pixels)
            inputs = {"pixel_values": pixels}
            for name, value in self._beside.items():
                inputs[name] = value.to(device).repeat(len(images), 1)
        tokens = self.model.generate(
            **inputs,
            max_new_tokens=self.options.max_new_tokens,
            do_sample=False,
            num_beams=1,
        )
        return _after(tokens, inputs.get("input_ids"))

    def _quick(self) -> Greedy:
        config = self.model.config
        start = [config.image_token_id] * config.num_query_tokens
        plain = torch.tensor([[*start, config.text_config.bos_token_id]])
        prompt = self._beside.get("input_ids", plain)
        return Greedy(self.model, prompt, self.options.max_new_tokens)

    def _wording(self) -> str | None:
        """The prompt as the model wants it."""
        prompt, kind = self.options.prompt, self.model.config.model_type
        if prompt is None:
            if kind not in PROMPTLESS:
                raise UserError(
                    f"A captioner of kind {kind} needs a prompt.",
                    "set captioning.prompt, for instance to 'Describe the image in one short sentence.'.",
                )
            return None
        if getattr(self.processor, "chat_template", None) is None:
            return prompt
        turn = {
            "role": "user",
            "content": [{"type": "image"}, {"type": "text", "text": prompt}],
        }
        return str(self.processor.apply_chat_template([turn], add_generation_prompt=True))

    def _features(self, images: Tensor) -> BatchFeature:
        """What the processor makes of uint8 (B, 1 or 3, H, W)."""
        images = images.expand(-1, 3, -1, -1)
        pictures: list[Any] = [to_pil(image.permute(1, 2, 0).numpy()) for image in images]
        if self.text is None:
            return self.processor(images=pictures, return_tensors="pt")
        if getattr(self.processor, "chat_template", None) is not None:
            pictures = [[picture] for picture in pictures]  # or they were all of one conversation
        return self.processor(
            images=pictures, text=[self.text] * len(pictures), return_tensors="pt"
        )

    def _recipe(self) -> tuple[Pixels | None, dict[str, Tensor]]:
        """How to prepare images on the device, and the inputs beside the pixels, (1, L) each.

        The recipe must make of a noisy picture what the processor makes of it.
        """
        pixels = recipe(getattr(self.processor, "image_processor", None))
        if pixels is None:
            return None, {}
        noise = torch.Generator().manual_seed(0)
        probe = torch.randint(0, 256, (1, 3, 61, 47), dtype=torch.uint8, generator=noise)
        inputs = dict(self._features(probe))
        prepared = inputs.pop("pixel_values", None)
        plain = all(value.ndim == 2 and len(value) == 1 for value in inputs.values())
        if prepared is None or not plain or not pixels.agrees(probe, prepared):
            return None, {}
        return pixels, inputs


def weights_dtype(model: Any) -> torch.dtype:
    """The dtype of most weights: BLIP-2 in float16 keeps its Q-Former in float32."""
    sizes: Counter[torch.dtype] = Counter()
    for weight in model.parameters():
        sizes[weight.dtype] += weight.numel()
    return sizes.most_common(1)[0][0]


def _after(tokens: Tensor, prompt: Tensor | None) -> Tensor:
    """The tokens behind the prompt, int64 (B, n); BLIP repeats the prompt without its last, separating token."""
    if prompt is None:
        return tokens
    for length in (prompt.shape[1], prompt.shape[1] - 1):
        if tokens.shape[1] >= length and torch.equal(
            tokens[:, :length], prompt[: len(tokens), :length]
        ):
            return tokens[:, length:]
    return tokens
