"""Captioning with a BLIP-2 of true size beside the published loop, in one run, on this machine.

    python -m benchmarks.captioning [--images 8192] [--batch 512 1024 2048] [--json result.json]
    python -m benchmarks.captioning --small      # seconds on a CPU, tiny models

The model has the geometry of `Salesforce/blip2-opt-2.7b` and random weights: speed does not depend on them. No word
ends a caption early, so all take 20 tokens. The published loop (TCKR, arXiv 2504.04582, its captioning notebook) takes
one image at a time: decode, processor, float16, generate.
"""

import argparse
import copy
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from benchmarks.blip2 import SMALL, Size, as_published, blip2, pictures, processor
from benchmarks.measure import Report, machine, matrix_rate, measure, weights_gib
from PIL import Image
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tckr.text.captioner import Captioner, caption, tidy
from tckr.text.decoding import Writer
from tckr.text.options import CaptionOptions

TOKENS = 20
NOISE = 4  # times the rounding error of a score: two scores closer than that are a tie
MEASURED = {
    "version": "version", "images": "images", "images_per_s": "images/s", "ratio": "ratio",
    "matrix_rate_share": "of matrix rate", "device_peak_gib": "device GiB", "host_peak_gib": "host GiB",
    "distinct": "distinct", "same": "same", "ties": "ties", "compared": "compared",
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all versions and print and save the table."""
    given = _parse(arguments)
    device = "cuda" if torch.cuda.is_available() and not given.small else "cpu"
    size = SMALL if given.small else Size()
    torch.manual_seed(0)
    rate = matrix_rate(size.matrix, device)
    ours = Captioner(blip2(size, device), processor(size))
    published = Captioner(as_published(ours.model), ours.processor)
    encoded = pictures(given.images, size.side)
    flops = _flops(ours, size)
    few = encoded[: given.published]
    first = Image.open(io.BytesIO(few[0])).convert("RGB")
    if not _scores(published, first, []).isfinite().all():
        raise SystemExit("float16 overflows with these weights: nothing to compare with")
    report = Report(given.json)
    report.set(
        **machine(device),
        model="tiny" if given.small else "geometry of Salesforce/blip2-opt-2.7b, random weights",
        new_tokens=TOKENS,
        matrix_tflop_per_s=rate / 1e12,
        tflop_per_image=flops / 1e12,
    )
    table = Comparison(report, flops, rate, few)
    table.add("published: one by one, float16", published, lambda: _one_by_one(published, few))
    for batch in given.batch:
        for name, captioner in {"float16": published, "bfloat16": ours}.items():
            work = _batched(captioner, encoded, batch, size)
            table.add(f"batches of {batch}, {name}", captioner, work)
    for n in (given.images // 4, given.images // 2, given.images):
        work = _batched(ours, encoded[:n], given.batch[0], size)
        report.add("memory_against_images", _timed(f"{n} images", ours, work)[0])
    report.show("Captioning", "rows", MEASURED)
    report.show("Memory", "memory_against_images", MEASURED)


class Comparison:
    """Rows of the table; the first is what the others are compared with."""

    def __init__(self, report: Report, flops: float, rate: float, encoded: Sequence[bytes]) -> None:
        self._report, self._most, self._encoded = report, rate / flops, encoded
        self._expected: list[str] = []

    def add(self, name: str, captioner: Captioner, work: Callable[[], list[str]]) -> None:
        """Measure one version and compare its captions."""
        row, texts = _timed(name, captioner, work)
        self._expected = self._expected or texts
        rows = self._report.result.get("rows") or [row]
        row["ratio"] = row["images_per_s"] / rows[0]["images_per_s"]
        row["matrix_rate_share"] = row["images_per_s"] / self._most
        row |= _agreement(captioner, self._expected, texts, self._encoded)
        self._report.add("rows", row)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, help="images that ours captions [8192]")
    parser.add_argument("--published", type=int, help="of them, by the published loop [48]")
    parser.add_argument("--batch", type=int, nargs="+", help="batch sizes to try [512 1024 2048]")
    parser.add_argument("--small", action="store_true", help="tiny models on the CPU, seconds")
    parser.add_argument("--json", type=Path, help="where to save the result")
    given = parser.parse_args(arguments)
    given.images = given.images or (24 if given.small else 8192)
    given.published = min(given.published or (6 if given.small else 48), given.images)
    given.batch = given.batch or ([8] if given.small else [512, 1024, 2048])
    return given


@torch.inference_mode()
def _one_by_one(captioner: Captioner, encoded: Sequence[bytes]) -> list[str]:
    texts = []
    for content in encoded:
        image = Image.open(io.BytesIO(content)).convert("RGB")
        inputs = captioner.processor(images=image, return_tensors="pt")
        inputs = inputs.to(captioner.model.device, torch.float16)
        tokens = captioner.model.generate(**inputs, max_new_tokens=TOKENS)
        texts += captioner.processor.batch_decode(tokens, skip_special_tokens=True)
    return [tidy(text) for text in texts]


def _options(batch: int) -> CaptionOptions:
    return CaptionOptions(captioner="random", max_new_tokens=TOKENS, batch_size=batch)


def _batched(
    captioner: Captioner, encoded: Sequence[bytes], batch: int, size: Size
) -> Callable[[], list[str]]:
    ready = False

    def work() -> list[str]:
        nonlocal ready
        if not ready:  # the first call warms up, with images of its own
            ready = True
            return caption(captioner, pictures(batch, size.side), _options(batch))
        return caption(captioner, encoded, _options(batch))

    return work


def _timed(
    name: str, captioner: Captioner, work: Callable[[], list[str]]
) -> tuple[dict[str, Any], list[str]]:
    """Time the second of two runs; its peak memory, and the captions."""
    work()
    weights = weights_gib([captioner.model])
    texts, cost = measure(work, weights)
    speed = {"version": name, "images": len(texts), "images_per_s": len(texts) / cost.seconds}
    return {**speed, "weights_gib": weights, **vars(cost)}, texts


def _agreement(
    captioner: Captioner, expected: list[str], texts: list[str], encoded: Sequence[bytes]
) -> dict[str, int]:
    """Captions that are the published loop's, and those that first differ where two words are a tie.

    A tie: in float32 the scores of the two words are closer than `NOISE` times what rounding to half precision changes
    a score there (root mean square over the vocabulary).
    """
    pairs = list(zip(encoded, expected, texts, strict=False))
    different = [pair for pair in pairs if pair[1] != pair[2]]
    ties = 0
    if different:
        exact = Captioner(copy.deepcopy(captioner.model).float(), captioner.processor)
        ties = sum(_is_tie(captioner, exact, *pair) for pair in different)
    return {
        "compared": len(pairs),
        "distinct": len({pair[1] for pair in pairs}),
        "same": len(pairs) - len(different),
        "ties": ties,
    }


@torch.inference_mode()
def _is_tie(half: Captioner, exact: Captioner, content: bytes, left: str, right: str) -> bool:
    words = [[int(word[1:]) for word in text.split()] for text in (left, right)]
    place = next(i for i, (a, b) in enumerate(zip(*words, strict=False)) if a != b)
    image = Image.open(io.BytesIO(content)).convert("RGB")
    scores = [_scores(captioner, image, words[0][:place]) for captioner in (half, exact)]
    gap = scores[1][words[0][place]] - scores[1][words[1][place]]
    return bool(gap.abs() <= NOISE * (scores[0] - scores[1]).square().mean().sqrt())


@torch.inference_mode()
def _scores(captioner: Captioner, image: Image.Image, prefix: list[int]) -> Tensor:
    """Scores of the word that follows `prefix`, float32 (vocabulary)."""
    model = captioner.model
    pixels = captioner.processor(images=image, return_tensors="pt").pixel_values.to(model.device)
    start = [model.config.image_token_index] * model.config.num_query_tokens
    ids = torch.tensor([[*start, model.config.text_config.bos_token_id, *prefix]])
    return model(pixel_values=pixels, input_ids=ids.to(model.device)).logits[0, -1].float()


def _flops(captioner: Captioner, size: Size) -> float:
    """Floating-point operations an image, counted while a few are captioned."""
    writer = Writer(captioner.model, captioner.processor, _options(4))
    images = torch.randint(0, 256, (4, 3, size.side, size.side), dtype=torch.uint8)
    with FlopCounterMode(display=False) as counter:
        writer.write(writer.prepare(images))
    return counter.get_total_flops() / len(images)


if __name__ == "__main__":
    main()
