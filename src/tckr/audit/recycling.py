"""The way from some members to synthetic images, walked again for every shadow (scope `pipeline`)."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tckr.audit.options import GeneratorThreat
from tckr.diffusion.options import AdaptationOptions, SamplingOptions
from tckr.engine.seeds import derive

# Few and many, on a GPU and on a CPU: the difference says how long one takes.
TRIAL_STEPS = ((10, 110), (2, 6))
TRIAL_IMAGES = ((64, 1024), (8, 40))


class Pool(NamedTuple):
    """Synthetic images uint8 (M, C, H, W) and the classes int64 (M,) of their prompts."""

    images: Tensor
    labels: Tensor


class Cell(NamedTuple):
    """How a pool is made."""

    generator: Literal["adapted", "base"]
    prompts: Literal["captions", "class_names"]


@dataclass(frozen=True)
class Recycling:
    """Adapt the generator to a shadow's members, then draw pools, by the very functions and options of the target.

    Attributes:
        prompts: (N,) "{class}: {caption}" of every audited image.
        class_names: (C,).
        adaptation: as for the target.
        sampling: as for the target.
        count: images of each pool.
        cells: the pools by name.
        threat: with it the adapted generator is asked about images too.
        asked: int64 (n,), about which.
    """

    prompts: Sequence[str]
    class_names: Sequence[str]
    adaptation: AdaptationOptions
    sampling: SamplingOptions
    count: int
    cells: Mapping[str, Cell]
    threat: GeneratorThreat | None = None
    asked: Sequence[int] = ()

    def run(
        self, images: Tensor, labels: Tensor, inside: NDArray[np.bool_], seed: int, device: str
    ) -> tuple[dict[str, Pool], dict[str, NDArray[np.float64]]]:
        """Return the pools, and white-box signals (n,) of the adapted generator by name.

        Args:
            images: uint8 (N, C, H, W), all audited ones.
            labels: int64 (N,).
            inside: bool (N,), the members of this shadow.
            seed: of this shadow; its parts are derived as those of a run.
            device: where to work.
        """
        from tckr.audit.denoising import ask
        from tckr.diffusion.lora import adapt
        from tckr.diffusion.pipeline import load

        chosen = np.flatnonzero(inside).tolist()
        members = labels[chosen].tolist()
        words = [self.prompts[i] for i in chosen]
        pipeline = load(self.adaptation.generator, device, self.adaptation.resolution)
        pools = {
            name: self._draw(pipeline, images, words, members, cell.prompts, seed)
            for name, cell in self.cells.items()
            if cell.generator == "base"
        }
        if self.threat is None and pools and len(pools) == len(self.cells):
            return pools, {}
        adapter, _ = adapt(
            pipeline,
            images[chosen],
            words,
            [self.class_names[label] for label in members],
            self.adaptation,
            derive(seed, "generator_adaptation"),
        )
        adapter.apply(pipeline)
        for name, cell in self.cells.items():
            if cell.generator == "adapted":
                pools[name] = self._draw(pipeline, images, words, members, cell.prompts, seed)
        signals: dict[str, NDArray[np.float64]] = {}
        if self.threat is not None:
            words = [self.prompts[i] for i in self.asked]
            questions = self.threat.queries()
            pixels = images[list(self.asked)]
            signals = ask(self.adaptation, adapter, pixels, words, device=device, **questions)
        return pools, signals

    def seconds(self, images: Tensor, labels: Tensor, device: str) -> float:
        """Seconds that one `run` will take here: a few steps and images, and some more, carried on in a line."""
        everything = np.ones(len(images), dtype=bool)

        def took(steps: int, cells: Mapping[str, Cell], count: int) -> float:
            schedule = self.adaptation.schedule.model_copy(update={"steps": steps})
            adaptation = self.adaptation.model_copy(update={"schedule": schedule, "epochs": None})
            trial = replace(self, adaptation=adaptation, cells=cells, count=count, threat=None)
            start = time.perf_counter()
            trial.run(images, labels, everything, 0, device)
            return time.perf_counter() - start

        few, many = TRIAL_STEPS[device == "cpu"]
        step, once = _line(lambda steps: took(steps, {}, 1), few, many)
        few, many = TRIAL_IMAGES[device == "cpu"]
        trial = {"trial": Cell("base", "class_names")}
        image, _ = _line(lambda count: took(1, trial, count), few, many)
        passes = self.sampling.steps * (2 if self.sampling.guidance_scale > 1 else 1)
        asked = 0 if self.threat is None else self.threat.passes * len(self.asked) / passes
        return (
            once
            + step * self.adaptation.schedule_for(len(images) // 2).steps
            + image * (self.count * len(self.cells) + asked)
        )

    def _draw(
        self,
        pipeline: object,
        images: Tensor,
        prompts: Sequence[str],
        labels: Sequence[int],
        kind: str,
        seed: int,
    ) -> Pool:
        from tckr.diffusion.sampling import balanced_prompts, sample

        if kind == "class_names":
            labels = sorted(set(labels))
            prompts = [self.class_names[label] for label in labels]
        plan = balanced_prompts(prompts, labels, self.count, derive(seed, "prompts"))
        channels, height, width = images.shape[1:]
        # A shadow works in a process of its own: no further ones inside it.
        options = self.sampling.model_copy(update={"workers": 1})
        words, drawn_by = plan["prompt"].tolist(), derive(seed, "sampling")
        drawn = sample(pipeline, words, (height, width), channels, options, drawn_by)
        return Pool(drawn, torch.from_numpy(plan["label"].to_numpy(copy=True)))


def _line(seconds: Callable[[int], float], few: int, many: int) -> tuple[float, float]:
    """Seconds for each, and those that come once, whatever the number."""
    seconds(few)  # the first call sets up libraries
    short, long = seconds(few), seconds(many)
    each = max(long - short, 0.0) / (many - few)
    return each, max(short - few * each, 0.0)
