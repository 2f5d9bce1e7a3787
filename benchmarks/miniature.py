"""Adapting and sampling the shipped generator beside its first version, in one run, on this machine.

    python benchmarks/miniature.py [--images 512] [--steps 10] [--repeats 3] [--out result.json]

The first version had latents of 16x16x4, a denoiser of 48-96-160 channels that read the text from its second level on,
and was sampled in 10 steps with guidance (20 passes an image). Its weights are not needed: speed does not depend on
them. The second line is that architecture with the present sampler, which separates the two causes.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import diffusers
import torch
from diffusers import StableDiffusionPipeline
from kedro.config import OmegaConfigLoader

from tckr.diffusion.lora import adapt
from tckr.diffusion.options import AdaptationOptions, SamplingOptions
from tckr.diffusion.pipeline import load
from tckr.diffusion.sampling import sample
from tckr.foundation.generator import GeneratorShape, build_generator
from tckr.settings import CONFIG_LOADER_ARGS

ROOT = Path(__file__).parents[1]
FIRST = GeneratorShape(
    latent_channels=4,
    autoencoder_widths=(32, 64),
    denoiser_widths=(48, 96, 160),
    attend_from=1,
)
FIRST_SAMPLING = {"steps": 10, "guidance_scale": 1.5}
SIZE = 28


def main() -> None:
    """Time all versions in turn, several times over, and print medians and ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=512, help="images to sample")
    parser.add_argument("--steps", type=int, default=10, help="LoRA steps to take")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    diffusers.utils.logging.set_verbosity_error()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parameters = OmegaConfigLoader(
        str(ROOT / "conf"), env="gpu" if device == "cuda" else "base", **CONFIG_LOADER_ARGS
    )["parameters"]
    sampling = SamplingOptions(**parameters["knowledge_recycling"]["sampling"])
    adaptation = AdaptationOptions(**parameters["generator_adaptation"])
    shipped = load(adaptation.generator, device)
    first = _untrained(FIRST, shipped, device)
    versions = {
        "first version": (first, sampling.model_copy(update=FIRST_SAMPLING)),
        "its architecture, present sampler": (first, sampling),
        "now": (shipped, sampling),
    }
    rows = [
        {"version": name, **_measure(generator, drawn, adaptation, arguments)}
        for name, (generator, drawn) in versions.items()
    ]
    for row in rows:
        for figure in ("sampling_images_per_s", "adaptation_images_per_s"):
            row[figure.replace("images_per_s", "ratio")] = row[figure] / rows[0][figure]
    _print(rows)
    if arguments.out:
        machine = torch.cuda.get_device_name() if device == "cuda" else platform.processor()
        facts = {"machine": machine, "threads": torch.get_num_threads(), "torch": torch.__version__}
        arguments.out.write_text(json.dumps({**facts, "rows": rows}, indent=2) + "\n")


def _untrained(
    shape: GeneratorShape, shipped: StableDiffusionPipeline, device: str
) -> StableDiffusionPipeline:
    pipeline = build_generator(shipped.tokenizer, shape).to(device, shipped.unet.dtype)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.unet.to(memory_format=torch.channels_last)
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        part.requires_grad_(False).eval()
    return pipeline


def _measure(
    generator: StableDiffusionPipeline,
    sampling: SamplingOptions,
    adaptation: AdaptationOptions,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    prompts = [f"a picture of thing {i}" for i in range(arguments.images)]

    def draw() -> None:
        sample(generator, prompts, (SIZE, SIZE), 1, sampling, 0)

    images = torch.randint(0, 256, (256, 1, SIZE, SIZE), dtype=torch.uint8)
    words = prompts[:1] * len(images)

    def learn(steps: int) -> Callable[[], None]:
        schedule = adaptation.schedule.model_copy(update={"steps": steps})
        options = adaptation.model_copy(update={"schedule": schedule})

        def work() -> None:
            adapt(generator, images, words, words, options, 0)

        return work

    draw()
    learn(2)()  # warms up; what both runs below spend on preparing cancels out
    few, many = (_seconds(learn(n), arguments.repeats) for n in (2, 2 + arguments.steps))
    seconds = (many - few) / arguments.steps
    return {
        "passes_an_image": sampling.steps * (2 if sampling.guidance_scale > 1 else 1),
        "sampling_images_per_s": arguments.images / _seconds(draw, arguments.repeats),
        "adaptation_s_per_step": seconds,
        "adaptation_images_per_s": adaptation.schedule.batch_size / seconds,
    }


def _seconds(work: Callable[[], None], repeats: int) -> float:
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return median(taken)


def _print(rows: list[dict[str, Any]]) -> None:
    lines = [
        f"{'':35}{'passes':>8}{'sampled/s':>11}{'ratio':>7}{'s a step':>10}{'adapted/s':>11}{'ratio':>7}"
    ]
    lines += [
        f"{row['version']:35}{row['passes_an_image']:>8}{row['sampling_images_per_s']:>11.1f}"
        f"{row['sampling_ratio']:>7.2f}{row['adaptation_s_per_step']:>10.4f}"
        f"{row['adaptation_images_per_s']:>11.1f}{row['adaptation_ratio']:>7.2f}"
        for row in rows
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
