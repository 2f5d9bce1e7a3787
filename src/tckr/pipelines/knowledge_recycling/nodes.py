"""Teacher, synthetic images, soft labels."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING, Any

import pandas as pd
from PIL import Image

from tckr.classifiers.options import ClassifierOptions
from tckr.diffusion.options import AdaptationOptions
from tckr.engine.device import best
from tckr.engine.seeds import derive
from tckr.images.tables import class_names, images_and_labels, of_split
from tckr.pipelines.knowledge_recycling.options import RecyclingOptions, images_at
from tckr.pipelines.types import Adapter, Classifier

if TYPE_CHECKING:
    from torch import Tensor


def train_teacher(
    images: pd.DataFrame, recipe: ClassifierOptions, seed: int
) -> tuple[Classifier, dict[str, Any]]:
    """Train a classifier on the members alone.

    Returns:
        The teacher, and its recipe in full: the student and every shadow are trained by it, not by what the
        configuration says when their turn comes.
    """
    from tckr.classifiers.distillation import train_teacher as train

    members = of_split(images, "members")
    pixels, labels = images_and_labels(members)
    names, steps = class_names(images), recipe.steps(len(members))
    teacher = train(
        pixels, labels, recipe, derive(seed, "teacher"), len(names), steps=steps, device=best()
    )
    return teacher, {"classifier": recipe.model_dump(mode="json"), "steps": steps, "classes": names}


def generate_images(
    images: pd.DataFrame,
    captions: pd.DataFrame,
    adapter: Adapter,
    adaptation: AdaptationOptions,
    options: RecyclingOptions,
    seed: int,
) -> pd.DataFrame:
    """Draw class-balanced prompts and the synthetic images they describe; see `tckr.diffusion.sampling`.

    Returns:
        An image table of `cardinality` times the members, all in split "train", with the prompts.
    """
    members = of_split(images, "members")
    count = images_at(options.cardinality, len(members))
    plan = plan_prompts(members, captions, options, count, seed)
    batches = stream_images(members, plan["prompt"].tolist(), adapter, adaptation, options, seed)
    with ThreadPoolExecutor() as pool:  # a batch becomes PNG files while the next one is drawn
        parts = list(pool.map(content, batches))
    columns = {name: list(chain(*(part[name] for part in parts))) for name in parts[0]}
    return plan.assign(split="train", generator=options.generator, **columns)


def draw_images(
    members: pd.DataFrame,
    prompts: Sequence[str],
    adapter: Adapter,
    adaptation: AdaptationOptions,
    options: RecyclingOptions,
    seed: int,
) -> "Tensor":
    """Draw one image a prompt, uint8 (N, C, H, W), of the members' size; see `tckr.diffusion.sampling`."""
    from tckr.diffusion.sampling import gathered

    batches = stream_images(members, prompts, adapter, adaptation, options, seed)
    return gathered(batches, len(prompts))


def stream_images(
    members: pd.DataFrame,
    prompts: Sequence[str],
    adapter: Adapter,
    adaptation: AdaptationOptions,
    options: RecyclingOptions,
    seed: int,
) -> "Iterator[Tensor]":
    """Yield the images of `draw_images` in batches, in order."""
    from tckr.diffusion.pipeline import load
    from tckr.diffusion.sampling import stream
    from tckr.images.tensors import to_tensor

    generator = load(adaptation.generator, best(), adaptation.resolution)
    if options.generator == "adapted":
        generator = adapter.apply(generator)
    channels, height, width = to_tensor(members["image"].head(1)).shape[1:]
    size = (height, width)
    return stream(generator, prompts, size, channels, options.sampling, derive(seed, "sampling"))


def plan_prompts(
    members: pd.DataFrame,
    captions: pd.DataFrame,
    options: RecyclingOptions,
    count: int,
    seed: int,
    nested: bool = False,
) -> pd.DataFrame:
    """Choose the prompt and class of `count` synthetic images: prompt, label, class_name.

    With `nested` every prefix is class-balanced; see `tckr.diffusion.sampling.balanced_prompts`.
    """
    from tckr.diffusion.sampling import balanced_prompts

    names = members.drop_duplicates("label").set_index("label")["class_name"]
    if options.prompts == "captions":
        labels = captions["image_id"].map(members.set_index("image_id")["label"])
        prompts = captions["prompt"]
    else:
        labels, prompts = names.index, names
    plan = balanced_prompts(
        prompts.tolist(), labels.tolist(), count, derive(seed, "prompts"), nested
    )
    return plan.assign(class_name=plan["label"].map(names))


def content(images: Any) -> dict[str, list[Any]]:
    """Return the columns image_id and image of uint8 images (N, C, H, W)."""
    from tckr.images.prepare import image_id
    from tckr.images.tensors import to_pil, to_png

    ids = [image_id(to_pil(pixels)) for pixels in images.permute(0, 2, 3, 1).numpy()]
    return {"image_id": ids, "image": to_png(images)}


def label_images(
    synthetic_images: pd.DataFrame, teacher: Classifier, options: RecyclingOptions
) -> pd.DataFrame:
    """Add the teacher's class probabilities, so that the set can be used without the teacher; leave out the prompts.

    With `release_prompts` they stay in.
    """
    from tckr.classifiers.predict import soft_labels
    from tckr.images.tensors import to_tensor

    labels = soft_labels(teacher.to(best()), to_tensor(synthetic_images["image"])).numpy()
    withheld = [] if options.release_prompts else ["prompt"]
    return synthetic_images.drop(columns=withheld).assign(soft_label=list(labels))


def draw_recycled_sheet(images: pd.DataFrame, recycled_set: pd.DataFrame) -> Image.Image:
    """Show private and recycled images of every class, a row each."""
    from tckr.reporting.style import class_sheet

    members = of_split(images, "members")
    return class_sheet({"private": members, "recycled": recycled_set})
