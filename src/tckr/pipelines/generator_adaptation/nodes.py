"""The base generator learns what the private set looks like."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from PIL import Image

from tckr.diffusion.options import AdaptationOptions
from tckr.engine.device import best
from tckr.engine.seeds import derive
from tckr.pipelines.knowledge_recycling.options import RecyclingOptions
from tckr.pipelines.types import Adapter

if TYPE_CHECKING:
    from tckr.engine.checkpoint import Checkpoints

SHOWN = 12


def adapt_generator(
    images: pd.DataFrame,
    captions: pd.DataFrame,
    options: AdaptationOptions,
    recycling: RecyclingOptions,
    seed: int,
) -> tuple[Adapter, pd.DataFrame, Image.Image]:
    """Fine-tune the generator on the members and their captions (LoRA); see `tckr.diffusion.lora`.

    Returns:
        The adapter, the loss by step, and what the generator drew from the same captions on the way. An adapter made
        elsewhere (`adapter`) is only checked: no step was taken.
    """
    from tckr.diffusion.lora import Adapter, adapt
    from tckr.diffusion.pipeline import load
    from tckr.diffusion.sampling import sample
    from tckr.images.sheets import sheet
    from tckr.images.tensors import to_tensor
    from tckr.reporting.style import notice

    generator = load(options.generator, best(), options.resolution)
    if options.adapter:
        adapter = Adapter.load(options.adapter)
        adapter.check(generator.unet)
        nothing = pd.DataFrame({"step": [], "loss": []})
        return adapter, nothing, notice("The adapter was made elsewhere.")
    shown = _shown(images, captions)
    request = _request(shown, recycling, seed)
    rows = [("private members", to_tensor(shown["image"]))]

    def look(step: int, adapted: Any) -> None:
        rows.append((f"after {step:,} steps", sample(adapted, *request)))

    table = captions.merge(images[["image_id", "image"]], on="image_id", validate="one_to_one")
    unfinished = _checkpoints(captions, options, seed)
    adapter, losses = adapt(
        generator,
        to_tensor(table["image"]),
        table["prompt"].tolist(),
        table["class_name"].tolist(),
        options,
        derive(seed, "generator_adaptation"),
        checkpoint=unfinished.of("adapter") if unfinished else None,
        snapshot_every=options.sheet_every,
        snapshot=look,
    )
    if len(rows) == 1:
        return adapter, losses, notice("Set generator_adaptation.sheet_every to see its progress.")
    return adapter, losses, sheet(rows, title="The same captions on the way")


def _checkpoints(
    captions: pd.DataFrame, options: AdaptationOptions, seed: int
) -> "Checkpoints | None":
    """Return where this very adaptation is kept while it runs; another one has a folder of its own."""
    from tckr.engine.checkpoint import Checkpoints, fingerprint

    if options.checkpoints is None:
        return None
    work = (
        options.model_dump_json(),
        seed,
        captions["image_id"].tolist(),
        captions["prompt"].tolist(),
    )
    return Checkpoints(Path(options.checkpoints) / fingerprint(*work))


def _shown(images: pd.DataFrame, captions: pd.DataFrame) -> pd.DataFrame:
    """Captions and images of one member a class."""
    chosen = captions.groupby("class_name", sort=False).head(1).head(SHOWN)
    return chosen.merge(images[["image_id", "image"]], on="image_id", validate="one_to_one")


def _request(shown: pd.DataFrame, recycling: RecyclingOptions, seed: int) -> tuple[Any, ...]:
    """What is drawn from these captions, by every generator with the same noise: arguments of `sample`."""
    from tckr.images.tensors import to_tensor

    channels, height, width = to_tensor(shown["image"].head(1)).shape[1:]
    sampling = recycling.sampling.model_copy(update={"workers": 1})  # a dozen images
    noise = derive(seed, "adaptation_sheet")
    return shown["prompt"].tolist(), (height, width), channels, sampling, noise


def draw_adaptation_curve(losses: pd.DataFrame) -> Image.Image:
    """Plot the loss by step."""
    from tckr.reporting.style import new_figure, rendered

    figure = new_figure(5.6, 3.2)
    axes = figure.axes[0]
    axes.plot(losses["step"], losses["loss"], color="#2563eb", linewidth=1.6)
    axes.set(xlabel="optimiser step", ylabel="denoising loss")
    return rendered(figure)


def draw_adaptation_sheet(
    images: pd.DataFrame,
    captions: pd.DataFrame,
    adapter: Adapter,
    options: AdaptationOptions,
    recycling: RecyclingOptions,
    seed: int,
) -> Image.Image:
    """Show members, and what the base and the adapted generator draw from their captions with the same noise.

    The adapter comes out of the catalog here, so that the checkpoint it was trained from is no longer needed.
    """
    from tckr.diffusion.pipeline import load
    from tckr.diffusion.sampling import sample
    from tckr.images.sheets import sheet
    from tckr.images.tensors import to_tensor

    if unfinished := _checkpoints(captions, options, seed):
        unfinished.remove()
    shown = _shown(images, captions)
    request = _request(shown, recycling, seed)
    generator = load(options.generator, best(), options.resolution)
    base = sample(generator, *request)
    adapted = sample(adapter.apply(generator), *request)
    rows = [
        ("private members", to_tensor(shown["image"])),
        ("base generator", base),
        ("adapted generator", adapted),
    ]
    return sheet(rows, title="The same captions, before and after adaptation")
