"""The base generator learns what the private set looks like."""

import pandas as pd
from PIL import Image

from tckr.diffusion.options import AdaptationOptions
from tckr.pipelines.device import best
from tckr.pipelines.knowledge_recycling.options import RecyclingOptions
from tckr.pipelines.types import Adapter
from tckr.seeds import derive

SHOWN = 12


def adapt_generator(
    images: pd.DataFrame, captions: pd.DataFrame, options: AdaptationOptions, seed: int
) -> tuple[Adapter, pd.DataFrame]:
    """Fine-tune the generator on the members and their captions (LoRA); see `tckr.diffusion.adapt`.

    Returns:
        The adapter, and the loss by step. An adapter made elsewhere (`adapter`) is only checked: no step was taken.
    """
    from tckr.diffusion.adapt import Adapter, adapt
    from tckr.diffusion.generator import load
    from tckr.images.tensors import to_tensor

    generator = load(options.generator, best(), options.resolution)
    if options.adapter:
        adapter = Adapter.load(options.adapter)
        adapter.check(generator.unet)
        return adapter, pd.DataFrame({"step": [], "loss": []})
    table = captions.merge(images[["image_id", "image"]], on="image_id", validate="one_to_one")
    return adapt(
        generator,
        to_tensor(table["image"]),
        table["prompt"].tolist(),
        table["class_name"].tolist(),
        options,
        derive(seed, "generator_adaptation"),
    )


def draw_adaptation_curve(losses: pd.DataFrame) -> Image.Image:
    """Plot the loss by step."""
    from tckr.pipelines.pictures import new_figure, rendered

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
    """Show members, and what the base and the adapted generator draw from their captions with the same noise."""
    from tckr.diffusion.generator import load
    from tckr.diffusion.sample import sample
    from tckr.images.sheets import sheet
    from tckr.images.tensors import to_tensor

    chosen = captions.groupby("class_name", sort=False).head(1).head(SHOWN)
    table = chosen.merge(images[["image_id", "image"]], on="image_id", validate="one_to_one")
    members = to_tensor(table["image"])
    size, channels = (members.shape[2], members.shape[3]), members.shape[1]
    request = (
        table["prompt"].tolist(),
        size,
        channels,
        recycling.sampling,
        derive(seed, "adaptation_sheet"),
    )
    generator = load(options.generator, best(), options.resolution)
    base = sample(generator, *request)
    adapted = sample(adapter.apply(generator), *request)
    rows = [("private members", members), ("base generator", base), ("adapted generator", adapted)]
    return sheet(rows, title="The same captions, before and after adaptation")
