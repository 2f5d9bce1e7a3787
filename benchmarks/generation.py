"""Drawing images from Stable Diffusion 2 of true size beside the published call, in one run, on this machine.

    python -m benchmarks.generation [--batches auto] [--json result.json]
    python -m benchmarks.generation --no-compile      # quicker by two minutes or so
    python -m benchmarks.generation --small           # seconds on a CPU, tiny models

The published way (TCKR, arXiv 2504.04582): the diffusers pipeline in float16, called with 32 prompts at a time, 20 steps,
guidance 2, images handed over by Pillow. Ours is `sample`, or `stream` where memory is measured. Weights are random and
every prompt is another, which is the most that the text encoder can have to do.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from benchmarks.measure import Report, machine, matrix_rate, measure, weights_gib
from benchmarks.stable_diffusion import (
    SMALL,
    Size,
    as_published,
    build,
    modules,
    precision,
    prompts,
)
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tckr.diffusion.options import SamplingOptions
from tckr.diffusion.sampling import sample, stream

BATCH = 32  # of the published call
PUBLISHED = SamplingOptions(steps=20, guidance_scale=2.0, batch_size="auto")
WARM = 4  # steps of the call that warms up and compiles
MEASURED = {
    "version": "version", "batch": "batch", "steps": "steps", "guided": "guided", "images_per_s": "images/s",
    "ratio": "ratio", "tflop_per_image": "TFLOP/image", "matrix_rate_share": "of matrix rate",
    "warm_up_s": "warm-up s", "device_peak_gib": "device GiB", "host_peak_gib": "host GiB",
}  # fmt: skip
MEMORY = {
    "images": "images", "batch": "batch", "images_per_s": "images/s", "device_peak_gib": "device GiB",
    "host_peak_gib": "host GiB",
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all versions, print the tables and save them."""
    given = _parse(arguments)
    device = "cuda" if torch.cuda.is_available() and not given.small else "cpu"
    size = SMALL if given.small else Size()
    torch.manual_seed(0)
    pipeline = build(size, device, torch.bfloat16 if device == "cuda" else torch.float32)
    report = Report(given.json)
    rate = matrix_rate(size.matrix, device)
    report.set(
        **machine(device),
        model="tiny" if given.small else "geometry of stable-diffusion-2-base, random weights",
        matrix_tflop_per_s=rate / 1e12,
    )
    bench = Bench(report, pipeline, size, rate, given.images)
    bench.published(given.calls)
    report.set(same_image_in_other_batches=bench.compare_batches())
    for batch in given.batches:
        bench.ours(PUBLISHED.model_copy(update={"batch_size": batch}))
    fixed = PUBLISHED.model_copy(update={"batch_size": bench.largest()})
    for count in given.memory:
        small = {"steps": 4, "scheduler": given.scheduler, "cache_gib": given.cache_gib}
        bench.remember(count, fixed.model_copy(update=small))
    best = fixed.model_copy(update={"compile": given.compile and device == "cuda"})
    if best.compile:
        bench.ours(best)
    few = [best.model_copy(update={"steps": n, "scheduler": given.scheduler}) for n in given.steps]
    for options in few:
        bench.ours(options)
    for options in few if given.interval else []:
        bench.ours(options.model_copy(update={"guidance_interval": tuple(given.interval)}))
    for options in few if given.unguided else []:
        bench.ours(options.model_copy(update={"guidance_scale": 1.0}))
    report.show("Generation", "rows", MEASURED)
    report.show(f"Memory, 4 steps, {given.cache_gib} GiB of cache", "memory_against_images", MEMORY)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    def batch(text: str) -> int | str:
        return text if text == "auto" else int(text)

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, help="that ours draws at a time [512]")
    parser.add_argument("--calls", type=int, help="timed calls of the published way [3]")
    parser.add_argument("--batches", type=batch, nargs="+", help="of ours [auto]")
    parser.add_argument("--steps", type=int, nargs="*", help="fewer steps to try [10 6 4]")
    parser.add_argument("--scheduler", default="dpmsolver", help="of the rows with fewer steps")
    parser.add_argument("--interval", type=float, nargs="*", help="of the guided steps [0.2 0.8]")
    parser.add_argument("--unguided", action="store_true", help="fewer steps without guidance too")
    parser.add_argument("--memory", type=int, nargs="*", help="numbers of images [512 1024 2048]")
    parser.add_argument("--cache-gib", type=float, help="that the rows of --memory may use [0.05]")
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    parser.add_argument("--small", action="store_true", help="tiny models on the CPU, seconds")
    parser.add_argument("--json", type=Path, help="where to save the result")
    given = parser.parse_args(arguments)
    defaults: dict[str, tuple[Any, Any]] = {  # true size, small
        "images": (512, 8), "calls": (3, 1), "batches": (["auto"], [4, "auto"]), "steps": ([10, 6, 4], [4]),
        "interval": ([0.2, 0.8], [0.2, 0.8]), "memory": ([512, 1024, 2048], [8, 16]),
        "cache_gib": (0.05, 1e-5),
    }  # fmt: skip
    for name, values in defaults.items():
        if getattr(given, name) is None:
            setattr(given, name, values[given.small])
    return given


@dataclass
class Bench:
    """Adds rows to the report.

    Attributes:
        rate: operations a second that the card's matrix units reach.
        images: that ours draws in one call.
    """

    report: Report
    pipeline: Any
    size: Size
    rate: float
    images: int

    def published(self, calls: int) -> None:
        """Time some calls of the diffusers pipeline after one that warms up."""
        pipeline = as_published(self.pipeline)

        def call() -> Any:
            return pipeline(
                prompts(BATCH),
                height=self.size.side,
                width=self.size.side,
                num_inference_steps=PUBLISHED.steps,
                guidance_scale=PUBLISHED.guidance_scale,
            )

        _, first = measure(call)
        _, cost = measure(lambda: [call() for _ in range(calls)], weights_gib(modules(pipeline)))
        row = {"batch": BATCH, "warm_up_s": first.seconds, **vars(cost)}
        self._add(
            f"published: diffusers, {precision(pipeline)}",
            PUBLISHED,
            calls * BATCH / cost.seconds,
            row,
        )

    def ours(self, options: SamplingOptions) -> None:
        """Time a call after one of few steps, which compiles."""
        warm = options.model_copy(update={"steps": WARM})
        sizes, first = measure(lambda: [len(part) for part in self._stream(self.images, warm)])
        weights = weights_gib(modules(self.pipeline))
        _, cost = measure(lambda: self._sample(self.images, options), weights)
        row = {"batch": sizes[0], "warm_up_s": first.seconds, **vars(cost)}
        asked = ", batch found by itself" if options.batch_size == "auto" else ""
        name = f"ours: {precision(self.pipeline)}{', compiled' if options.compile else ''}{asked}"
        self._add(name, options, self.images / cost.seconds, row)

    def largest(self) -> int:
        """The largest batch of all rows of ours."""
        return max(row["batch"] for row in self.report.result["rows"][1:])

    def remember(self, count: int, options: SamplingOptions) -> None:
        """Draw many images and keep none, as a stage does that writes them to shards."""
        weights = weights_gib(modules(self.pipeline))
        _, cost = measure(lambda: sum(1 for _ in self._stream(count, options)), weights)
        row = {"batch": options.batch_size, "images_per_s": count / cost.seconds, **vars(cost)}
        self.report.add("memory_against_images", {"images": count, **row})

    def compare_batches(self) -> dict[str, float]:
        """How far the pixels (0 to 255) of the first images depend on the batch they were drawn in."""
        left, right = (
            self._sample(8, PUBLISHED.model_copy(update={"batch_size": batch})).int()
            for batch in (8, 3)
        )
        apart = (left - right).abs()
        other = (left - left.roll(1, 0)).abs()  # what two different images differ by
        return {
            "largest": int(apart.max()),
            "mean": float(apart.float().mean()),
            "mean_between_images": float(other.float().mean()),
        }

    def _sample(self, count: int, options: SamplingOptions) -> Tensor:
        side = (self.size.side, self.size.side)
        return sample(self.pipeline, prompts(count), side, 3, options, seed=0)

    def _stream(self, count: int, options: SamplingOptions) -> Iterator[Tensor]:
        side = (self.size.side, self.size.side)
        return stream(self.pipeline, prompts(count), side, 3, options, seed=0)

    def _add(
        self, version: str, options: SamplingOptions, rate: float, more: dict[str, Any]
    ) -> None:
        rows = self.report.result.get("rows", [])
        first = rows[0]["images_per_s"] if rows else rate
        flops = self._flops(options)
        low, high = options.guidance_interval
        self.report.add(
            "rows",
            {
                "version": version,
                "scheduler": options.scheduler,
                "steps": options.steps,
                "guided": f"{low:g} to {high:g}" if options.guidance_scale > 1 else "none",
                "images_per_s": rate,
                "ratio": rate / first,
                "tflop_per_image": flops / 1e12,
                "matrix_rate_share": rate * flops / self.rate,
                **more,
            },
        )

    def _flops(self, options: SamplingOptions) -> float:
        """Operations an image, counted while one is drawn; of the text encoder, its prompt alone."""
        with FlopCounterMode(display=False) as text, torch.no_grad():
            nothing = torch.zeros(1, self.size.tokens, dtype=torch.long)
            self.pipeline.text_encoder(nothing.to(self.pipeline.device))
        plain = options.model_copy(update={"batch_size": 1, "compile": False})
        with FlopCounterMode(display=False) as counter:
            self._sample(1, plain)
        return counter.get_total_flops() - text.get_total_flops()


if __name__ == "__main__":
    main()
