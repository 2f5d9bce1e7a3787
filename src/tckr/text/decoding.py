"""Write the captions of one batch: prepare the images, generate greedily, read the tokens."""

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

    def _quick(self) -> "Greedy":
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


# What a generation_config.json may set without changing which words are written greedily.
HARMLESS = {
    "bos_token_id", "cache_implementation", "eos_token_id", "max_length", "max_new_tokens", "pad_token_id",
    "temperature", "top_k", "top_p", "transformers_version", "use_cache", "_from_model_config",
}  # fmt: skip


def suits(model: Any) -> bool:
    """Whether this is a BLIP-2 with a decoder-only language model that generates without rules of its own."""
    config = model.config
    if config.model_type != "blip-2" or not config.use_decoder_only_language_model:
        return False
    settings: GenerationConfig = model.language_model.generation_config
    return {name for name, value in settings.to_diff_dict().items() if value} <= HARMLESS


class Reserved(DynamicLayer):
    """Keys and values of one layer in memory that is reserved for all words, so that none is copied for the next."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self._length = length
        self._all: tuple[Tensor, Tensor] | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Add (B, heads, n, width) and return what is there by now."""
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


class Greedy:
    """Writes the words of a batch of images."""

    def __init__(self, model: Any, prompt: Tensor, words: int) -> None:
        """Take a model that `suits`.

        Args:
            prompt: int64 (1, L): tokens before the caption, those of the image among them.
            words: tokens a caption.
        """
        self.model, self.words = model, words
        self._prompt = prompt.to(model.device)
        settings = model.language_model.generation_config
        ends = settings.eos_token_id
        ends = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
        self._ends = torch.tensor(ends, dtype=torch.int64, device=model.device)
        blank = settings.pad_token_id
        self._blank: int = ends[0] if blank is None and ends else blank or 0

    def __call__(self, pixels: Tensor) -> Tensor:
        """Tokens, int64 (B, words), on the device, perhaps still being computed; blanks behind an end.

        Args:
            pixels: what the processor makes of B images, on the device.
        """
        half = self.model.language_model.dtype != torch.float32
        with _fast_float32(half):
            features = self.model.get_image_features(pixels, return_dict=True).pooler_output
            return self._write(features)

    def _write(self, features: Tensor) -> Tensor:
        """The words after image features (B, Q, width)."""
        language = self.model.language_model
        embeddings = language.get_input_embeddings()
        image = self._prompt[0] == self.model.config.image_token_id
        told = embeddings(self._prompt).expand(len(features), -1, -1)
        told = told.masked_scatter(image[None, :, None], features.to(told.dtype))
        room = self._prompt.shape[1] + self.words
        layers = language.config.get_text_config().num_hidden_layers
        cache = Cache(layers=[Reserved(room) for _ in range(layers)])
        inputs: dict[str, Tensor] = {"inputs_embeds": told}
        written: list[Tensor] = []
        # An index for the last place: a slice of the prompt's would be multiplied image by image.
        last = torch.full((1,), self._prompt.shape[1] - 1, device=told.device)
        for _ in range(self.words):
            out = language(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=last)
            written.append(out.logits[:, -1].argmax(-1, keepdim=True))
            inputs, last = {"input_ids": written[-1]}, last * 0
        tokens = torch.cat(written, 1)
        ended = torch.isin(tokens, self._ends).cumsum(1)
        ended[:, 1:] = ended[:, :-1].clone()
        ended[:, 0] = 0
        return tokens.masked_fill(ended > 0, self._blank)


@contextmanager
def _fast_float32(wanted: bool) -> Iterator[None]:
    """Products of float32 with the precision of float16 (TF32): BLIP-2 keeps its Q-Former in float32 beside float16."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if wanted else before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
