"""What an image costs at least in each model stage: operations and bytes, counted without any weights.

    python -m benchmarks.floor [--rate 751] [--bandwidth 4.8] [--json result.json]      # seconds on any CPU

Networks of true size are run on the meta device, where tensors have shapes and no values. Operations are those of all
matrix products, convolutions and attentions (2 a multiply-add). Bytes are those which these must read and write in
bfloat16 if all else is fused into them, weights once a call; without caches. The floor in images a second is what the
card's matrix rate, or its memory, would allow if nothing else cost anything.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from benchmarks.blip2 import Size as CaptionerSize
from benchmarks.blip2 import blip2
from benchmarks.captioning import TOKENS
from benchmarks.measure import Report
from benchmarks.stable_diffusion import Size, build
from peft import LoraConfig
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry
from transformers import Blip2ForConditionalGeneration

from tckr.diffusion.options import ATTENTION

COLUMNS = {
    "part": "part", "batch": "batch", "tflop": "TFLOP/image", "gigabyte": "GB/image",
    "by_rate": "images/s by matrix rate", "by_memory": "images/s by memory",
}  # fmt: skip
HALF = torch.bfloat16


def main(arguments: Sequence[str] | None = None) -> None:
    """Count all stages, print the table and save it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rate", type=float, default=751, help="TFLOP/s of bfloat16 matrices")
    parser.add_argument("--bandwidth", type=float, default=4.8, help="TB/s of the card's memory")
    parser.add_argument("--json", type=Path, help="where to save the result")
    given = parser.parse_args(arguments)
    report = Report(given.json)
    report.set(matrix_tflop_per_s=given.rate, memory_tb_per_s=given.bandwidth)
    bench = Bench(report, given.rate, given.bandwidth)
    captioning(bench, 512)
    for batch in (4, 256):
        adaptation(bench, batch)
    for batch in (32, 512):
        generation(bench, batch)
    report.show("Floors", "rows", COLUMNS)


@dataclass
class Bench:
    """Adds rows to the report."""

    report: Report
    rate: float
    bandwidth: float

    def add(self, part: str, batch: int, cost: "Count") -> None:
        """One part of a stage, of `batch` images at once."""
        tflop, gigabyte = cost.flops / batch / 1e12, cost.bytes / batch / 1e9
        floors = {"by_rate": self.rate / tflop, "by_memory": 1000 * self.bandwidth / gigabyte}
        row = {"part": part, "batch": batch, "tflop": tflop, "gigabyte": gigabyte, **floors}
        self.report.add("rows", row)


@dataclass
class Count:
    """Operations and bytes of some work."""

    flops: float
    bytes: float

    def times(self, number: float) -> "Count":
        """As much of it."""
        return Count(self.flops * number, self.bytes * number)

    def __add__(self, other: "Count") -> "Count":
        return Count(self.flops + other.flops, self.bytes + other.bytes)


class Traffic(TorchDispatchMode):
    """Counts the bytes that go into and come out of every operation that FlopCounterMode counts."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        if operation._overloadpacket in flop_registry:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]  # fmt: skip
            self.bytes += sum(tensor.nbytes for tensor in tensors)
        return result


class Fused(TorchFunctionMode):
    """Attention as one operation, as a GPU does it; a mask changes nothing that is counted."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is not functional.scaled_dot_product_attention:
            return function(*args, **(kwargs or {}))
        given = {**dict(zip(("query", "key", "value"), args, strict=False)), **(kwargs or {})}
        states = [given[name] for name in ("query", "key", "value")]
        return torch.ops.aten._scaled_dot_product_flash_attention(*states)[0]


def count(work: Callable[[], Any]) -> Count:
    """Count what `work` does on the meta device."""
    with Fused(), Traffic() as traffic, FlopCounterMode(display=False) as counter:
        work()
    return Count(counter.get_total_flops(), traffic.bytes)


def empty(*shape: int) -> Tensor:
    """A bfloat16 tensor without values."""
    return torch.empty(shape, device="meta", dtype=HALF)


@torch.no_grad()
def captioning(bench: Bench, batch: int) -> None:
    """Vision model and Q-Former once, the words' model over the queries and then token by token."""
    size = CaptionerSize()
    model = blip2(size, "meta")
    words = model.language_model
    states = model.vision_model
    seen = size.queries + 1  # and the token that starts a caption
    vision = count(lambda: states(empty(batch, 3, size.side, size.side)))
    patches = empty(batch, (size.side // size.patch) ** 2 + 1, size.vision[0])
    queries = empty(batch, size.queries, size.qformer[0])
    queried = count(lambda: _project(model, queries, patches))
    cache = words(inputs_embeds=empty(batch, seen, size.text[0]), use_cache=True).past_key_values
    read = count(lambda: words(inputs_embeds=empty(batch, seen, size.text[0]), logits_to_keep=1))
    written = Count(0, 0)
    token = torch.zeros(batch, 1, device="meta", dtype=torch.long)
    for _ in range(TOKENS - 1):
        written += count(lambda: words(token, past_key_values=cache, use_cache=True))
    bench.add("captioning: vision model", batch, vision)
    bench.add("captioning: Q-Former", batch, queried)
    bench.add(f"captioning: {seen} tokens read", batch, read)
    bench.add(f"captioning: {TOKENS - 1} more tokens, one by one", batch, written)
    bench.add("captioning: all", batch, vision + queried + read + written)


def _project(model: Blip2ForConditionalGeneration, queries: Tensor, patches: Tensor) -> Tensor:
    found = model.qformer(query_embeds=queries, encoder_hidden_states=patches).last_hidden_state
    return model.language_projection(found)


def adaptation(bench: Bench, batch: int) -> None:
    """The denoiser forwards and backwards, once an image and step; autoencoder and text encoder once an image."""
    pipeline = build(Size(), "meta", HALF)
    latents = pipeline.unet.config.sample_size
    pipeline.unet.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=list(ATTENTION)))

    def step() -> None:
        _denoise(pipeline, batch, latents).float().square().mean().backward()

    bench.add("adaptation: encoding, once", batch, _encode(pipeline, batch))
    bench.add("adaptation: step", batch, count(step))


@torch.no_grad()
def generation(bench: Bench, batch: int) -> None:
    """21 evaluations of two rows an image (20 steps of PNDM, guided), and the decoder; then 4 evaluations."""
    pipeline = build(Size(), "meta", HALF)
    latents = pipeline.unet.config.sample_size
    both = count(lambda: _denoise(pipeline, 2 * batch, latents))
    plain = count(lambda: _denoise(pipeline, batch, latents))
    words = count(lambda: pipeline.text_encoder(_tokens(batch)))
    decoded = words + count(lambda: pipeline.vae.decode(empty(batch, 4, latents, latents)))
    bench.add("generation: text encoder and decoder", batch, decoded)
    bench.add("generation: 20 steps, guided", batch, decoded + both.times(21))
    bench.add("generation: 4 steps, guided", batch, decoded + both.times(4))
    bench.add("generation: 4 steps, 3 of them guided", batch, decoded + both.times(3) + plain)


def _denoise(pipeline: Any, rows: int, latents: int) -> Tensor:
    words = empty(rows, Size().tokens, Size().text[0])
    time = torch.zeros(rows, device="meta", dtype=torch.long)
    noisy = empty(rows, 4, latents, latents)
    predicted: Tensor = pipeline.unet(noisy, time, words, return_dict=False)[0]
    return predicted


@torch.no_grad()
def _encode(pipeline: Any, batch: int) -> Count:
    side = Size().side
    return count(lambda: pipeline.vae.encode(empty(batch, 3, side, side))) + count(
        lambda: pipeline.text_encoder(_tokens(batch))
    )


def _tokens(batch: int) -> Tensor:
    return torch.zeros(batch, Size().tokens, device="meta", dtype=torch.long)


if __name__ == "__main__":
    main()
