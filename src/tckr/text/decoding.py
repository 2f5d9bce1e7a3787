"""Caption one batch: prepare the images, generate greedily, decode the tokens.

`Writer` drives any image-text-to-text model through its `generate`; a BLIP-2 on a GPU takes the shorter loop of
`Greedy`, which gives the same tokens.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import BatchFeature, Cache, DynamicLayer, GenerationConfig

from tckr.engine.overlap import to_host
from tckr.errors import UserError
from tckr.images.tensors import to_pil
from tckr.text.options import CaptionOptions
from tckr.text.preprocessing import Pixels, recipe

# Kinds (model_type) that caption an image without any text.
PROMPTLESS = {"blip", "blip-2", "git"}
# Settings of generation_config.json that do not change the tokens of greedy decoding.
HARMLESS = {
    "bos_token_id", "cache_implementation", "eos_token_id", "max_length", "max_new_tokens", "pad_token_id",
    "temperature", "top_k", "top_p", "transformers_version", "use_cache", "_from_model_config",
}  # fmt: skip


class Batch(NamedTuple):
    """Images prepared by a worker thread.

    Attributes:
        images: uint8 (B, 1 or 3, H, W).
        features: the model's inputs, made by the processor image by image; None where that is done on the device.
    """

    images: Tensor
    features: BatchFeature | None


class Writer:
    """Caption batches of images with one model, processor and prompt."""

    def __init__(self, model: Any, processor: Any, options: CaptionOptions) -> None:
        """Decide how to prepare images.

        Raises:
            UserError: the model needs a prompt and has none.
        """
        self.model, self.processor, self.options = model, processor, options
        self.dtype = weights_dtype(model)
        self.limit = options.batch_size
        self.text = self._wording()
        self._pixels, self._beside = self._recipe()
        quick = self._pixels and model.device.type == "cuda" and suits(model)
        self._greedy = self._greedy_loop() if quick else None

    def prepare(self, images: Tensor) -> Batch:
        """Do the part of preparing uint8 (B, 1 or 3, H, W) that runs on the CPU; safe in any thread."""
        if not self._pixels:
            return Batch(images, self._features(images))
        on_gpu = self.model.device.type == "cuda"
        return Batch(images.pin_memory() if on_gpu else images, None)

    def write(self, batch: Batch) -> list[str]:
        """Return B captions; see `start`."""
        return self.start(batch)()

    @torch.inference_mode()
    def start(self, batch: Batch) -> Callable[[], list[str]]:
        """Start captioning and return a function that waits for the B captions; a GPU works meanwhile.

        A batch that does not fit on the device is halved, and later ones are cut to the size that did fit.

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
        """Return the tokens after the prompt, int64 (B, n)."""
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

    def _greedy_loop(self) -> "Greedy":
        config = self.model.config
        start = [config.image_token_id] * config.num_query_tokens
        plain = torch.tensor([[*start, config.text_config.bos_token_id]])
        prompt = self._beside.get("input_ids", plain)
        return Greedy(self.model, prompt, self.options.max_new_tokens)

    def _wording(self) -> str | None:
        """Return the prompt in the form that the model expects."""
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
        """Return the processor's features of uint8 (B, 1 or 3, H, W)."""
        images = images.expand(-1, 3, -1, -1)
        pictures: list[Any] = [to_pil(image.permute(1, 2, 0).numpy()) for image in images]
        if self.text is None:
            return self.processor(images=pictures, return_tensors="pt")
        if getattr(self.processor, "chat_template", None) is not None:
            pictures = [
                [picture] for picture in pictures
            ]  # or they would all belong to one conversation
        return self.processor(
            images=pictures, text=[self.text] * len(pictures), return_tensors="pt"
        )

    def _recipe(self) -> tuple[Pixels | None, dict[str, Tensor]]:
        """Return how to prepare images on the device, and the inputs other than the pixels, (1, L) each.

        The result for an image of noise must agree with the processor's.
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
    """Return the dtype of most weights: BLIP-2 in float16 keeps its Q-Former in float32.

    >>> weights_dtype(torch.nn.Linear(2, 2).half())
    torch.float16
    """
    sizes: Counter[torch.dtype] = Counter()
    for weight in model.parameters():
        sizes[weight.dtype] += weight.numel()
    return sizes.most_common(1)[0][0]


class Greedy:
    """Generate the tokens of a batch of images with a BLIP-2."""

    def __init__(self, model: Any, prompt: Tensor, max_new_tokens: int) -> None:
        """Args: model: one that `suits`. prompt: int64 (1, L), the tokens before the caption, image tokens included."""
        self.model, self.max_new_tokens = model, max_new_tokens
        self._prompt = prompt.to(model.device)
        settings = model.language_model.generation_config
        eos = settings.eos_token_id
        eos = [] if eos is None else [eos] if isinstance(eos, int) else list(eos)
        self._eos = torch.tensor(eos, dtype=torch.int64, device=model.device)
        pad = settings.pad_token_id
        self._pad: int = eos[0] if pad is None and eos else pad or 0

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return tokens, int64 (B, max_new_tokens), on the device, perhaps still being computed; padded after an end.

        Args:
            pixels: B images as the processor prepares them, on the device.
        """
        half = self.model.language_model.dtype != torch.float32
        with _fast_float32(half):
            features = self.model.get_image_features(pixels, return_dict=True).pooler_output
            return self._generate(features)

    def _generate(self, features: Tensor) -> Tensor:
        """Return the tokens after the prompt with image features (B, Q, width)."""
        language = self.model.language_model
        embeddings = language.get_input_embeddings()
        image = self._prompt[0] == self.model.config.image_token_id
        prompt = embeddings(self._prompt).expand(len(features), -1, -1)
        prompt = prompt.masked_scatter(image[None, :, None], features.to(prompt.dtype))
        length = self._prompt.shape[1] + self.max_new_tokens
        layers = language.config.get_text_config().num_hidden_layers
        cache = Cache(layers=[Reserved(length) for _ in range(layers)])
        inputs: dict[str, Tensor] = {"inputs_embeds": prompt}
        generated: list[Tensor] = []
        # An index for the last position: a slice of the prompt's would be multiplied image by image.
        last = torch.full((1,), self._prompt.shape[1] - 1, device=prompt.device)
        for _ in range(self.max_new_tokens):
            out = language(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=last)
            generated.append(out.logits[:, -1].argmax(-1, keepdim=True))
            inputs, last = {"input_ids": generated[-1]}, last * 0
        tokens = torch.cat(generated, 1)
        ended = torch.isin(tokens, self._eos).cumsum(1)
        ended[:, 1:] = ended[:, :-1].clone()
        ended[:, 0] = 0
        return tokens.masked_fill(ended > 0, self._pad)


def suits(model: Any) -> bool:
    """Whether `Greedy` gives the tokens of `generate`: a BLIP-2 with a decoder-only language model and plain settings."""
    config = model.config
    if config.model_type != "blip-2" or not config.use_decoder_only_language_model:
        return False
    settings: GenerationConfig = model.language_model.generation_config
    return {name for name, value in settings.to_diff_dict().items() if value} <= HARMLESS


class Reserved(DynamicLayer):
    """Keys and values of one layer, in memory reserved for all tokens, so that none is copied for the next."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self._length = length
        self._all: tuple[Tensor, Tensor] | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append (B, heads, n, width) and return all keys and values so far."""
        if self._all is None:
            self.lazy_initialization(key_states, value_states)
            batch, heads, _, width = key_states.shape
            shape = (batch, heads, self._length, width)
            self._all = key_states.new_empty(shape), value_states.new_empty(shape)
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        for place, states in zip(self._all, (key_states, value_states), strict=True):
            place[:, :, start:end] = states
        self.keys, self.values = (place[:, :, :end] for place in self._all)
        return self.keys, self.values


def _after(tokens: Tensor, prompt: Tensor | None) -> Tensor:
    """Return the tokens after the prompt, int64 (B, n); BLIP repeats the prompt without its last, separating token."""
    if prompt is None:
        return tokens
    for length in (prompt.shape[1], prompt.shape[1] - 1):
        if tokens.shape[1] >= length and torch.equal(
            tokens[:, :length], prompt[: len(tokens), :length]
        ):
            return tokens[:, length:]
    return tokens


@contextmanager
def _fast_float32(wanted: bool) -> Iterator[None]:
    """Multiply float32 matrices in TF32 if `wanted`: BLIP-2 in float16 keeps its Q-Former in float32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if wanted else before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
