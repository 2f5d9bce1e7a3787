"""Where the time of a private adaptation step goes, and gradients per image by hooks beside two other ways.

    python -m benchmarks.dp_lora [--images 256] [--passes 4] [--json result.json]
    python -m benchmarks.dp_lora --small      # a tiny generator, seconds

One piece of a step: forward pass, backward pass to the outputs of the trained layers, the products that are gradients per
image, clipping and sum. Beside it a backward pass an image (micro-batches of one), and torch.func's vmap(grad) of the whole
denoiser. All three give the same sum, which is checked. The shipped generator, rank 4, attention and feed-forward.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from benchmarks.measure import Report, machine, now
from torch import Tensor

from tckr.diffusion.dp_lora import _as_lora
from tckr.diffusion.embeddings import PromptEmbeds, encode_prompts
from tckr.diffusion.lora import _with_lora
from tckr.diffusion.pipeline import load
from tckr.diffusion.private_options import DPAdaptationOptions
from tckr.engine.device import best
from tckr.training.per_image import clipped_sum, recording

ROOT = Path(__file__).parents[1]
GENERATOR = ROOT / "data/06_models/foundation/generator"
NORM = 1e-3
COLUMNS = {
    "way": "way", "images": "images", "passes": "passes an image", "seconds": "seconds", "images_per_s": "images/s", "ratio": "times ours",
    "difference": "difference of the sum",
}  # fmt: skip
PARTS = {"part": "part", "seconds": "seconds", "share": "share"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables and save them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, help="of a piece [256, on a CPU 16]")
    parser.add_argument("--passes", type=int, default=4, help="noise levels an image")
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3, help="of which the best counts")
    parser.add_argument("--small", action="store_true", help="4 images, 2 passes")
    parser.add_argument("--json", type=Path, help="where to save the result")
    given = parser.parse_args(arguments)
    device = best()
    images = 4 if given.small else given.images or (256 if device == "cuda" else 16)
    passes = 2 if given.small else given.passes
    report = Report(given.json)
    report.set(**machine(device))
    options = DPAdaptationOptions(generator=str(GENERATOR), rank=given.rank)
    pipeline = load(options.generator, device)
    if device == "cuda":
        pipeline.unet.float()  # as autocast and vmap both can read it
    with _with_lora(pipeline.unet, _as_lora(options)) as trained:
        for each in trained:
            torch.nn.init.normal_(each, std=0.02)
        piece = Piece(pipeline, images, passes)
        report.set(weights=sum(each.numel() for each in trained))
        for name, seconds in piece.parts(given.repeats).items():
            report.add("parts", {"part": name, "seconds": seconds})
        whole = sum(row["seconds"] for row in report.result["parts"])
        report.set(
            parts=[{**row, "share": row["seconds"] / whole} for row in report.result["parts"]]
        )
        compare(report, piece, given.repeats)
    report.show(f"One piece: {images} images, {passes} passes each", "parts", PARTS)
    report.show("Gradients per image", "ways", COLUMNS)


class Piece:
    """Some images in training, with fixed noise levels: every way computes the same gradients."""

    def __init__(self, pipeline: Any, images: int, passes: int) -> None:
        self.unet, self.images, self.passes = pipeline.unet, images, passes
        self.trained = [each for each in self.unet.parameters() if each.requires_grad]
        rows, device = images * passes, pipeline.device
        torch.manual_seed(0)
        side, channels = self.unet.config.sample_size, self.unet.config.in_channels
        self.noisy = torch.randn(rows, channels, side, side, device=device)
        self.target = torch.randn_like(self.noisy)
        self.timesteps = torch.randint(1000, (rows,), device=device)
        embeds = encode_prompts(pipeline, [f"a red shape {row % 7}" for row in range(rows)])
        self.text: PromptEmbeds = embeds
        self.states = embeds.encoder_hidden_states.float()

    def errors(self, rows: slice = slice(None)) -> Tensor:
        """Mean squared error of each pass."""
        predicted = self.unet(
            self.noisy[rows], self.timesteps[rows], self.states[rows], return_dict=False
        )[0]
        return (predicted - self.target[rows]).square().mean((1, 2, 3))

    def parts(self, repeats: int) -> dict[str, float]:
        """Seconds of the parts of our way, the best of some repeats each."""
        found: dict[str, list[float]] = {
            "forward": [],
            "backward and products": [],
            "clipping and sum": [],
        }
        for _ in range(repeats + 1):
            with recording(self.unet) as record:
                clock = [now()]
                loss = self.errors().sum() / self.passes
                clock.append(now())
                gradients = record.gradients(loss, self.images)
                clock.append(now())
                clipped_sum(gradients, NORM)
                clock.append(now())
            for name, start, stop in zip(found, clock, clock[1:], strict=False):
                found[name].append(stop - start)
        alone = []
        for _ in range(repeats + 1):
            with recording(self.unet) as record:
                loss = self.errors().sum() / self.passes
                outputs = [call[2] for call in record._calls]
                start = now()
                torch.autograd.grad(loss, outputs, allow_unused=True)
                alone.append(now() - start)
                record._calls.clear()
        both, backward = min(found["backward and products"]), min(alone)
        return {
            "forward": min(found["forward"]),
            "backward to the layers' outputs": backward,
            "products, the gradients per image": max(both - backward, 0.0),
            "clipping and sum": min(found["clipping and sum"]),
        }

    def hooks(self) -> list[Tensor]:
        """Ours."""
        with recording(self.unet) as record:
            return clipped_sum(
                record.gradients(self.errors().sum() / self.passes, self.images), NORM
            )

    def one_by_one(self) -> list[Tensor]:
        """A backward pass an image."""
        total = [torch.zeros_like(each) for each in self.trained]
        for image in range(self.images):
            rows = slice(image * self.passes, (image + 1) * self.passes)
            gradients = torch.autograd.grad(self.errors(rows).mean(), self.trained)
            for each, part in zip(
                total, clipped_sum([g[None] for g in gradients], NORM), strict=True
            ):
                each.add_(part)
        return total

    def mapped(self) -> list[Tensor]:
        """torch.func: vmap(grad) of the whole denoiser."""
        names = [name for name, each in self.unet.named_parameters() if each.requires_grad]
        weights = {
            name: each.detach() for name, each in self.unet.named_parameters() if name in names
        }

        def loss(
            weights: dict[str, Tensor],
            noisy: Tensor,
            timesteps: Tensor,
            states: Tensor,
            target: Tensor,
        ) -> Tensor:
            arguments = (noisy, timesteps, states)
            predicted = torch.func.functional_call(
                self.unet, weights, arguments, {"return_dict": False}
            )[0]
            return (predicted - target).square().mean()

        grad = torch.func.vmap(
            torch.func.grad(loss), in_dims=(None, 0, 0, 0, 0), randomness="different"
        )
        rows = [each.unflatten(0, (self.images, self.passes)) for each in (self.noisy, self.timesteps, self.states, self.target)]  # fmt: skip
        gradients = grad(weights, *rows)
        return clipped_sum([gradients[name] for name in names], NORM)


def compare(report: Report, piece: Piece, repeats: int) -> None:
    """Time the three ways; the second and third beside the first."""
    ways: dict[str, Callable[[], list[Tensor]]] = {
        "hooks (ours)": piece.hooks, "micro-batches of one": piece.one_by_one, "vmap(grad)": piece.mapped,
    }  # fmt: skip
    first: tuple[float, list[Tensor]] | None = None
    for name, way in ways.items():
        try:
            result = way()
            times = []
            for _ in range(repeats):
                start = now()
                way()
                times.append(now() - start)
        except (RuntimeError, NotImplementedError) as error:  # what torch.func cannot map
            report.add("ways", {"way": f"{name}: {str(error).splitlines()[0][:60]}"})
            continue
        seconds = min(times)
        first = first or (seconds, result)
        apart = (
            sum(float((a - b).square().sum()) for a, b in zip(result, first[1], strict=True)) ** 0.5
        )
        size = sum(float(each.square().sum()) for each in first[1]) ** 0.5
        report.add(
            "ways",
            {
                "way": name, "images": piece.images, "passes": piece.passes, "seconds": seconds,
                "images_per_s": piece.images / seconds, "ratio": seconds / first[0], "difference": apart / size,
            },
        )  # fmt: skip


if __name__ == "__main__":
    main()
