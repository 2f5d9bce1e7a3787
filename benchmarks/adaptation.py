"""Adapting Stable Diffusion 2 of true size beside the published loop, in one run, on this machine.

    python -m benchmarks.adaptation [--batches 4 32 128 256] [--compile 4] [--json result.json]
    python -m benchmarks.adaptation --no-compile      # quicker by a minute or two for each compiled batch size
    python -m benchmarks.adaptation --small           # seconds on a CPU, tiny models

The published loop (TCKR, arXiv 2504.04582, its `lora.py`, which is diffusers' text-to-image LoRA script): float16, one
image at a time, gradients of four added up, autoencoder and text encoder at every step. Ours is `adapt` as the pipeline
calls it. Rank, layers, optimiser, learning rate and data are the same; weights are random, so that losses and the
distance that the adapter moved say whether both do the same work, not how good it is.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.measure import Report, machine, matrix_rate, measure, now, weights_gib
from benchmarks.published_adaptation import EFFECTIVE, Published, distance
from benchmarks.stable_diffusion import (
    SMALL,
    Size,
    as_published,
    build,
    modules,
    pictures,
    precision,
    prompts,
)
from torch import Tensor
from torch.nn import functional

from tckr.diffusion.lora import adapt
from tckr.diffusion.options import AdaptationOptions
from tckr.options import Schedule

WARM = 10  # steps before the clock starts, at least; at the tenth `adapt` looks whether the weights moved
TIMED = 320  # images of ours that are timed, at least
MEASURED = {
    "version": "version", "images_per_s": "images/s", "ratio": "ratio", "matrix_rate_share": "of matrix rate",
    "preparation_s": "preparation s", "device_peak_gib": "device GiB", "host_peak_gib": "host GiB",
}  # fmt: skip
MEMORY = {
    "images": "images", "seconds": "seconds", "device_peak_gib": "device GiB", "host_peak_gib": "host GiB",
}  # fmt: skip
LOSSES = {
    "version": "version", "seed": "seed", "mean_loss": "mean loss", "moved": "adapter moved",
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all versions, print the tables and save them."""
    given = _parse(arguments)
    device = "cuda" if torch.cuda.is_available() and not given.small else "cpu"
    size = SMALL if given.small else Size()
    torch.manual_seed(0)
    images, texts = pictures(given.images, size.side), prompts(given.images)
    pipeline = build(size, device, torch.bfloat16 if device == "cuda" else torch.float32)
    report = Report(given.json)
    rate = matrix_rate(size.matrix, device)
    published = Published(as_published(pipeline), images, texts, size)
    encoding, step = published.flops()
    report.set(
        **machine(device),
        model="tiny" if given.small else "geometry of stable-diffusion-2-base, random weights",
        matrix_tflop_per_s=rate / 1e12,
        tflop_per_image={"step": step / 1e12, "encoding": encoding / 1e12},
        images=given.images,
        published_steps=given.steps,
    )
    bench = Bench(report, rate / step)
    ours = Ours(pipeline, images, texts)
    bench.time_published(published, given.steps)
    for batch in given.batches:
        bench.time_ours(ours, batch)
    bench.compare_losses(published, ours, given.seeds, given.loss_steps)
    del published
    for count in given.memory:
        report.add("memory_against_images", ours.remember(count, given.cache_gib))
    for batch in given.compile:
        torch.compiler.reset()  # what was compiled for another size is not kept
        bench.time_ours(ours, batch, compiled=True)
    report.show("Adaptation", "rows", MEASURED)
    report.show(f"Losses of {given.loss_steps} steps of {EFFECTIVE}", "losses", LOSSES)
    report.show(f"Memory, {given.cache_gib} GiB of cache", "memory_against_images", MEMORY)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, help="in the private set [256]")
    parser.add_argument("--steps", type=int, help="timed steps of the published loop [40]")
    parser.add_argument("--loss-steps", type=int, help="steps whose losses are compared [10]")
    parser.add_argument("--seeds", type=int, help="runs whose losses are compared [3]")
    parser.add_argument("--batches", type=int, nargs="+", help="of ours [4 32 128 256]")
    parser.add_argument("--compile", type=int, nargs="*", help="of them, compiled too [4]")
    parser.add_argument("--no-compile", dest="compile", action="store_const", const=[])
    parser.add_argument("--memory", type=int, nargs="*", help="numbers of images [1024 4096 16384]")
    parser.add_argument("--cache-gib", type=float, help="that the rows of --memory may use [0.25]")
    parser.add_argument("--small", action="store_true", help="tiny models on the CPU, seconds")
    parser.add_argument("--json", type=Path, help="where to save the result")
    given = parser.parse_args(arguments)
    defaults: dict[str, tuple[Any, Any]] = {  # true size, small
        "images": (256, 16), "steps": (40, 6), "loss_steps": (10, 4), "seeds": (3, 2),
        "batches": ([4, 32, 128, 256], [4, 8]), "compile": ([4], []),
        "memory": ([1024, 4096, 16384], [16, 64]), "cache_gib": (0.25, 1e-4),
    }  # fmt: skip
    for name, values in defaults.items():
        if getattr(given, name) is None:
            setattr(given, name, values[given.small])
    return given


@dataclass
class Ours:
    """`adapt`, with the published recipe."""

    pipeline: Any
    images: Tensor
    texts: Sequence[str]

    def run(self, batch: int, seed: int, steps: int, compiled: bool = False) -> dict[str, Any]:
        """Adapt, and read the clock between the steps, those at the beginning and the last one left out."""
        marks: dict[int, float] = {}

        def mark(done: int, _: Any) -> None:
            marks[done] = now()

        begin = now()
        adapter, curve = adapt(
            self.pipeline,
            self.images,
            self.texts,
            self.texts,
            self._options(batch, steps, compiled),
            seed,
            snapshot_every=(steps - 1)
            // 2,  # 1, for few steps; at least WARM, for those that are timed
            snapshot=mark,
        )
        first, last = min(marks), max(marks)
        seconds = (marks[last] - marks[first]) / (last - first)
        return {
            "images_per_s": batch / seconds,
            "preparation_s": marks[last] - begin - last * seconds,
            "losses": list(curve.loss),
            "moved": distance(adapter.weights),
        }

    def remember(self, count: int, cache_gib: float) -> dict[str, Any]:
        """What a few steps on many images take; each with a prompt of its own. They are small and enlarged on the way."""
        side = self.images.shape[-1] // 4
        small = functional.interpolate(self.images.float(), (side, side)).byte()
        images = small[torch.arange(count) % len(small)]
        texts = prompts(count)
        options = self._options(32, 4).model_copy(update={"cache_gib": cache_gib, "flip": False})
        _, cost = measure(
            lambda: adapt(self.pipeline, images, texts, texts, options, seed=0),
            weights_gib(modules(self.pipeline)),
        )
        return {"images": count, **vars(cost)}

    @staticmethod
    def _options(batch: int, steps: int, compiled: bool = False) -> AdaptationOptions:
        return AdaptationOptions(
            generator="random",
            rank=4,
            alpha=4,
            layers="attention",
            schedule=Schedule(
                steps=steps,
                batch_size=batch,
                learning_rate=1e-4,
                decay="constant",
                warmup=0,
                weight_decay=1e-2,
                beta2=0.999,
            ),
            class_only=0,
            unconditional=0,
            flip=True,
            timesteps="independent",
            compile=compiled,
        )


@dataclass
class Bench:
    """Adds rows to the report; `most` is how many images a second the matrix rate would allow."""

    report: Report
    most: float

    def time_published(self, published: Published, steps: int) -> None:
        """Time `steps` of the published loop after the first few."""
        weights = weights_gib(modules(published.pipeline))
        (_, times, _), cost = measure(lambda: published.run(0, WARM + steps), weights)
        self._add(
            f"published: one by one, {precision(published.pipeline)}",
            EFFECTIVE * steps / (times[-1] - times[WARM]),
            vars(cost),
        )

    def time_ours(self, ours: Ours, batch: int, compiled: bool = False) -> None:
        """Time some steps of ours after the first few."""
        timed = max(WARM, TIMED // batch) if ours.pipeline.device.type == "cuda" else WARM
        weights = weights_gib(modules(ours.pipeline))
        found, cost = measure(lambda: ours.run(batch, 0, 2 * timed + 1, compiled), weights)
        self._add(
            f"ours: batches of {batch}, {precision(ours.pipeline)}{', compiled' if compiled else ''}",
            found["images_per_s"],
            {"preparation_s": found["preparation_s"], **vars(cost)},
        )

    def _add(self, version: str, rate: float, more: dict[str, Any]) -> None:
        rows = self.report.result.get("rows", [])
        first = rows[0]["images_per_s"] if rows else rate
        speed = {"images_per_s": rate, "ratio": rate / first, "matrix_rate_share": rate / self.most}
        self.report.add("rows", {"version": version, **speed, **more})

    def compare_losses(self, published: Published, ours: Ours, seeds: int, steps: int) -> None:
        """The same steps both ways, with other noise; mean and standard deviation over the seeds."""
        means: dict[str, list[float]] = {"published": [], "ours": []}
        for seed in range(seeds):
            theirs, _, moved = published.run(seed, steps)
            found = ours.run(EFFECTIVE, seed, steps)
            for name, losses, distant in (
                ("published", theirs, moved),
                ("ours", found["losses"], found["moved"]),
            ):
                means[name].append(float(np.mean(losses)))
                row = {"version": name, "seed": seed, "mean_loss": means[name][-1]}
                self.report.add("losses", {**row, "moved": distant, "curve": losses})
        self.report.set(
            loss_over_seeds={
                name: {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1))}
                for name, values in means.items()
            }
        )


if __name__ == "__main__":
    main()
