"""Caption images with a transformers image-text-to-text model, given as a folder or hub id.

TCKR (arXiv 2504.04582, section 3): one caption per private image, no text prompt, greedy, at most 20 new tokens
with the published model, `Salesforce/blip2-opt-2.7b` in float16.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor

from tckr.engine import resolve_workers, stream_shards
from tckr.engine.checkpoint import Checkpoints, fingerprint
from tckr.engine.loading import OFFLINE, SAFE, check_kind, download, readable
from tckr.engine.overlap import ahead, behind
from tckr.engine.progress import track
from tckr.engine.rows import Shared
from tckr.engine.weights import find_variant
from tckr.images.tensors import to_tensor
from tckr.text.decoding import Writer, weights_dtype
from tckr.text.options import CaptionOptions, Precision

# What decides the captions of given images; the other options change only the speed.
RECIPE = {"captioner", "prompt", "max_new_tokens", "dtype"}


@dataclass(frozen=True)
class Captioner:
    """A model of AutoModelForImageTextToText with its processor.

    Attributes:
        model: the model.
        processor: its processor.
        source: folder or hub id that it was loaded from, which stands for it on its way to another process.
        dtype: as it was asked for.
    """

    model: Any
    processor: Any
    source: str | None = None
    dtype: Precision = "auto"

    def __reduce__(self) -> tuple[Any, ...]:
        if self.source is None:
            return Captioner, (self.model, self.processor)
        return load, (self.source, self.model.device.type, self.dtype)


def kinds() -> set[str]:
    """Return every `model_type` that can caption: transformers' image-text-to-text models.

    >>> {"blip-2", "blip", "git", "llava"} <= kinds()
    True
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    return set(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)


def load(source: str, device: str = "cpu", dtype: Precision = "auto") -> Captioner:
    """Load a captioner, offline, safetensors only.

    Args:
        source: a local folder, or a hub id that is already in the local cache.
        dtype: of the weights; auto is float32 on a CPU, bfloat16 on a GPU.

    Returns:
        The captioner in evaluation mode, its weights frozen.

    Raises:
        UserError: the folder is missing, incomplete, or holds another kind of model.
    """
    meaning = "a transformers image-text-to-text model (BLIP-2, BLIP, ...) with safetensors weights"
    remedy = download(source, "captioning.captioner", meaning)
    check_kind(source, "model_type", kinds(), remedy)
    wanted = dtype
    if dtype == "auto":
        dtype = "float32" if device == "cpu" else "bfloat16"
    with readable(f"Captioner '{source}'", remedy):
        model = AutoModelForImageTextToText.from_pretrained(
            source, dtype=getattr(torch, dtype), variant=find_variant(source), **SAFE
        )
        processor = AutoProcessor.from_pretrained(source, **OFFLINE)
    return Captioner(model.to(device).eval().requires_grad_(False), processor, source, wanted)


def caption(
    captioner: Captioner,
    images: Tensor | Sequence[bytes],
    options: CaptionOptions,
    checkpoints: Checkpoints | None = None,
) -> list[str]:
    """Write one greedy caption per image; images with the same content are captioned once.

    Encoded images are decoded in worker threads, a few batches ahead of the device, so that memory does not grow
    with their number. Several GPUs, or the workers of a cluster, write the captions of different shards side by side.

    Args:
        images: uint8 (N, C, H, W), C 1 or 3; or N encoded images (PNG), those of a batch of one size.
        checkpoints: where the captions of every `options.shard` distinct images are saved, from which the same call
            resumes; in a folder of this work alone, see `caption_fingerprint`. The caller removes them once all
            captions are saved elsewhere.

    Returns:
        N captions, lower case, single spaces.

    Raises:
        UserError: the model needs a prompt, not even one image fits on the device, or the checkpoints are of other
            work.
    """
    keys = [_digest(image) for image in images]
    first: dict[bytes, int] = {}
    for row, key in enumerate(keys):
        first.setdefault(key, row)
    rows = list(first.values())
    shards = _shards(rows, keys, captioner, options)
    found = [shard.load(checkpoints) for shard in shards]
    missing = [shard for shard, saved in zip(shards, found, strict=True) if saved is None]
    work = _Work(captioner, images, options, checkpoints)
    workers, devices = resolve_workers()
    new = (
        stream_shards(_write_one, missing, workers, "captions", shared=work, devices=devices)
        if min(workers, len(missing)) > 1
        else _write(missing, work)
    )
    texts = [next(new) if saved is None else saved for saved in found]
    written = [text for shard in texts for text in shard]
    by_key = {keys[row]: tidy(text) for row, text in zip(rows, written, strict=True)}
    return [by_key[key] for key in keys]


def caption_fingerprint(images: Tensor | Sequence[bytes], options: CaptionOptions) -> str:
    """Return a name for the work of captioning these images, for the folder of its checkpoints.

    It covers the content of the images, in their order, and the options that change the captions or how they are saved
    (captioner, prompt, max_new_tokens, dtype, shard). A smaller `batch_size`, after running out of memory, resumes the
    same work.

    Args:
        images: as for `caption`.

    Returns:
        16 hex digits.

    >>> options = CaptionOptions(captioner="models/blip2")
    >>> halved = options.model_copy(update={"batch_size": 64})
    >>> caption_fingerprint([b"image"], options) == caption_fingerprint([b"image"], halved)
    True
    >>> caption_fingerprint([b"image"], options) == caption_fingerprint([b"other"], options)
    False
    """
    content = hashlib.blake2b(b"".join(_digest(image) for image in images)).hexdigest()
    recipe = options.model_dump(include={*RECIPE, "shard"})
    return fingerprint(sorted(recipe.items()), content)


def tidy(text: str) -> str:
    """Return `text` in lower case, with single spaces and none before punctuation.

    >>> tidy(" A dog ,  on the grass . ")
    'a dog, on the grass.'
    """
    return re.sub(r"\s+([,.:;!?])", r"\1", " ".join(text.lower().split()))


def captions_table(
    ids: Sequence[str], class_names: Sequence[str], captions: Sequence[str]
) -> pd.DataFrame:
    """Return the captions with the prompts that adapt the generator: `"{class}: {caption}"` (TCKR, section 3).

    >>> captions_table(["1a"], ["Bag"], ["a small bag"]).prompt.item()
    'Bag: a small bag'
    """
    return pd.DataFrame(
        {
            "image_id": list(ids),
            "class_name": list(class_names),
            "caption": list(captions),
            "prompt": [f"{name}: {text}" for name, text in zip(class_names, captions, strict=True)],
        }
    )


@dataclass(frozen=True)
class _Work:
    """What all shards read; other processes map the images, and load the captioner."""

    captioner: Captioner
    images: Tensor | Sequence[bytes]
    options: CaptionOptions
    checkpoints: Checkpoints | None

    @cached_property
    def writer(self) -> Writer:
        return Writer(self.captioner.model, self.captioner.processor, self.options)

    @cached_property
    def _sent(self) -> Any:
        return Shared(self.images) if isinstance(self.images, Tensor) else self.images

    def __reduce__(self) -> tuple[Any, ...]:
        return _Work, (self.captioner, self._sent, self.options, self.checkpoints)


def _write(shards: "Sequence[_Shard]", work: _Work) -> Iterator[list[str]]:
    """Yield the captions of each shard once they are saved; images are prepared, and tokens read, across their borders."""
    jobs = [(shard, part) for shard in shards for part in _cut(shard.rows, work.options.batch_size)]
    batches = ahead(lambda job: work.writer.prepare(_pick(work.images, job[1])), jobs)
    begun = (work.writer.start(batch) for batch in track(batches, "captions", len(jobs)))
    texts: list[str] = []
    for (shard, _), finish in zip(jobs, behind(begun), strict=True):
        texts += finish()
        if len(texts) == len(shard.rows):
            shard.save(work.checkpoints, texts)
            yield texts
            texts = []


def _write_one(shard: "_Shard", work: _Work) -> list[str]:
    (texts,) = _write([shard], work)
    return texts


class _Shard(NamedTuple):
    """Distinct images whose captions are saved together, and what distinguishes their work from other work."""

    name: str
    rows: list[int]
    fingerprint: dict[str, Any]

    def __str__(self) -> str:
        return self.name

    def load(self, checkpoints: Checkpoints | None) -> list[str] | None:
        saved = checkpoints and checkpoints.of(self.name).load(self.fingerprint)
        return list(saved["captions"]) if saved else None

    def save(self, checkpoints: Checkpoints | None, captions: list[str]) -> None:
        if checkpoints:
            checkpoints.of(self.name).save(self.fingerprint, {"captions": captions})


def _shards(
    rows: list[int], keys: list[bytes], captioner: Captioner, options: CaptionOptions
) -> list[_Shard]:
    size = -(-options.shard // options.batch_size) * options.batch_size  # whole batches
    common = {
        **options.model_dump(include=RECIPE),
        "device": captioner.model.device.type,
        "weights": str(weights_dtype(captioner.model)),
    }
    shards = []
    for number, part in enumerate(_cut(rows, size)):
        content = hashlib.blake2b(b"".join(keys[row] for row in part)).hexdigest()
        # By place, not by number: another batch size may move the borders.
        name = f"{number * size:07d}-{number * size + len(part):07d}"
        shards.append(_Shard(name, part, {**common, "images": content}))
    return shards


def _digest(image: Tensor | bytes) -> bytes:
    content = image if isinstance(image, bytes) else image.contiguous().numpy().tobytes()
    return hashlib.blake2b(content, digest_size=16).digest()


def _cut(rows: list[int], size: int) -> Iterator[list[int]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _pick(images: Tensor | Sequence[bytes], rows: list[int]) -> Tensor:
    if isinstance(images, Tensor):
        return images[rows]
    return to_tensor([images[row] for row in rows], channels=3)
