"""The base generator learns what the private set looks like."""

from typing import TYPE_CHECKING, Any

import pandas as pd
from PIL import Image

from tckr.diffusion.options import AdaptationOptions
from tckr.engine.device import best
from tckr.engine.once_saved import once_saved
from tckr.engine.places import place
from tckr.engine.seeds import derive
from tckr.images.tables import class_names, images_and_labels
from tckr.options import recipe
from tckr.pipelines.types import Adapter
from tckr.synthesizers.private_set import PrivateSet
from tckr.synthesizers.tckr import TCKR

if TYPE_CHECKING:
    from tckr.engine.checkpoint import Checkpoints

SHOWN = 12


def adapt_generator(
    images: pd.DataFrame, captions: pd.DataFrame, options: AdaptationOptions, seed: int
) -> tuple[Adapter, pd.DataFrame, Image.Image]:
    """Fine-tune the generator on the members and their captions; see `TCKR.adapt_generator`.

    Returns:
        The adapter, the loss by step, and what the generator drew from the same captions on the way.
    """
    import torch

    from tckr.diffusion.sampling import sample
    from tckr.images.sheets import sheet
    from tckr.images.tensors import to_tensor
    from tckr.reporting.style import notice

    synthesizer = TCKR.partly(generator_adaptation=options)
    if options.adapter:  # neither images nor captions are read
        nothing = PrivateSet([], torch.zeros(0, dtype=torch.int64), ())
        adapter, losses = synthesizer.adapt_generator(nothing, {}, seed, best())
        return adapter, losses, notice("The adapter was made elsewhere.")
    members = images.set_index("image_id").loc[captions["image_id"]].reset_index()
    private = PrivateSet(*images_and_labels(members), class_names(images))
    shown = _shown(images, captions)
    request = _request(shown, options, seed)
    rows = [("private members", to_tensor(shown["image"]))]

    def look(step: int, adapted: Any) -> None:
        rows.append((f"after {step:,} steps", sample(adapted, *request)))

    unfinished = _checkpoints(captions, options, seed)
    adapter, losses = synthesizer.adapt_generator(
        private,
        {"captions": captions},
        seed,
        best(),
        checkpoint=unfinished.of("adapter") if unfinished else None,
        snapshot=look if options.sheet_every else None,
    )
    if unfinished:
        once_saved(unfinished.remove)
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
        recipe({"generator_adaptation": options}),
        seed,
        captions["image_id"].tolist(),
        captions["prompt"].tolist(),
    )
    return Checkpoints(place(options.checkpoints) / fingerprint(*work))


def _shown(images: pd.DataFrame, captions: pd.DataFrame) -> pd.DataFrame:
    """Return captions and images of one member per class."""
    chosen = captions.groupby("class_name", sort=False).head(1).head(SHOWN)
    return chosen.merge(images[["image_id", "image"]], on="image_id", validate="one_to_one")


def _request(shown: pd.DataFrame, options: AdaptationOptions, seed: int) -> tuple[Any, ...]:
    """Return what every generator draws from these captions with the same noise: arguments of `sample`."""
    from tckr.images.tensors import to_tensor

    channels, height, width = to_tensor(shown["image"].head(1)).shape[1:]
    noise = derive(seed, "adaptation_sheet")
    return shown["prompt"].tolist(), (height, width), channels, options.sheet_sampling, noise


def draw_adaptation_curve(losses: pd.DataFrame) -> Image.Image:
    """Plot the loss by step."""
    from tckr.reporting.style import new_figure, rendered

    figure = new_figure(5.6, 3.2)
    axes = figure.axes[0]
    axes.plot(losses["step"], losses["loss"], color="#2563eb", linewidth=1.6)
    axes.set(xlabel="optimizer step", ylabel="denoising loss")
    return rendered(figure)


def draw_adaptation_sheet(
    images: pd.DataFrame,
    captions: pd.DataFrame,
    adapter: Adapter,
    options: AdaptationOptions,
    seed: int,
) -> Image.Image:
    """Show members, and what the base and the adapted generator draw from their captions with the same noise."""
    from tckr.diffusion.pipeline import load
    from tckr.diffusion.sampling import sample
    from tckr.images.sheets import sheet
    from tckr.images.tensors import to_tensor

    shown = _shown(images, captions)
    request = _request(shown, options, seed)
    generator = load(options.generator, best(), options.resolution)
    base = sample(generator, *request)
    adapted = sample(adapter.apply(generator), *request)
    rows = [
        ("private members", to_tensor(shown["image"])),
        ("base generator", base),
        ("adapted generator", adapted),
    ]
    return sheet(rows, title="The same captions, before and after adaptation")
