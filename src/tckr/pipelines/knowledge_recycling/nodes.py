"""Teacher, synthetic images, soft labels."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import pandas as pd
from PIL import Image

from tckr.classifiers.options import ClassifierOptions
from tckr.engine.device import best
from tckr.engine.seeds import derive
from tckr.images.tables import class_names, images_and_labels, of_split
from tckr.pipelines.arm import aligned
from tckr.pipelines.types import Classifier
from tckr.synthesizers.base import Fitted, Synthesizer


def train_teacher(
    images: pd.DataFrame, recipe: ClassifierOptions, seed: int
) -> tuple[Classifier, dict[str, Any]]:
    """Train a classifier on the members alone; see `tckr.classifiers.distillation`.

    Returns:
        The teacher, and its recipe in full: the student and every shadow are trained by it, not by what the
        configuration says when their turn comes.
    """
    from tckr.classifiers import distillation

    members = of_split(images, "members")
    pixels, labels = images_and_labels(members)
    names, steps = class_names(images), recipe.steps(len(members))
    teacher = distillation.train_teacher(
        pixels, labels, recipe, derive(seed, "teacher"), len(names), steps=steps, device=best()
    )
    return teacher, {"classifier": recipe.model_dump(mode="json"), "steps": steps, "classes": names}


def generate_images(
    synthesizer: Synthesizer, artefacts: Mapping[str, Any], images: pd.DataFrame, seed: int
) -> pd.DataFrame:
    """Draw class-balanced prompts and the synthetic images they describe; see `tckr.synthesizers`.

    Returns:
        An image table of `cardinality` times the members, all in split "train", with the prompts.
    """
    fitted = fitted_on_members(synthesizer, artefacts, images)
    count = synthesizer.knowledge_recycling.n_images(len(fitted.labels))
    plan = fitted.plan_prompts(count, seed)
    batches = fitted.draw(plan["prompt"].tolist(), seed)
    with ThreadPoolExecutor() as pool:  # encode each batch to PNG while the next one is generated
        parts = list(pool.map(content, batches))
    columns = {name: list(chain(*(part[name] for part in parts))) for name in parts[0]}
    names = dict(enumerate(fitted.class_names))
    facts = {"split": "train", **synthesizer.provenance()}
    return plan.assign(class_name=plan["label"].map(names), **facts, **columns)


def fitted_on_members(
    synthesizer: Synthesizer, artefacts: Mapping[str, Any], images: pd.DataFrame
) -> Fitted:
    """Return the synthesizer as its steps left it, ready to sample."""
    from tckr.images.tensors import to_tensor

    members = of_split(images, "members")
    shape = to_tensor(members["image"].head(1)).shape[1:]
    made = aligned(artefacts, synthesizer, members)
    labels = members["label"].tolist()
    return Fitted(synthesizer, labels, class_names(images), shape, made, best())


def content(images: Any) -> dict[str, list[Any]]:
    """Return the columns image_id and image of uint8 images (N, C, H, W)."""
    from tckr.images.prepare import image_id
    from tckr.images.tensors import to_pil, to_png

    ids = [image_id(to_pil(pixels)) for pixels in images.permute(0, 2, 3, 1).numpy()]
    return {"image_id": ids, "image": to_png(images)}


def label_images(
    synthesizer: Synthesizer,
    artefacts: Mapping[str, Any],
    synthetic_images: pd.DataFrame,
    teacher: Classifier = None,
) -> pd.DataFrame:
    """Add the teacher's class probabilities, so that the set can be used without it; leave out the prompts.

    With `release_prompts` they stay in. An arm that labels by its prompts has no teacher here.
    """
    del artefacts
    from tckr.classifiers.predict import soft_labels
    from tckr.images.tensors import to_tensor

    withheld = [] if synthesizer.knowledge_recycling.release_prompts else ["prompt"]
    released = synthetic_images.drop(columns=withheld)
    if teacher is None:
        return released
    labels = soft_labels(teacher.to(best()), to_tensor(synthetic_images["image"])).numpy()
    return released.assign(soft_label=list(labels))


def draw_recycled_sheet(images: pd.DataFrame, recycled_set: pd.DataFrame) -> Image.Image:
    """Show private and recycled images of every class, one row each."""
    from tckr.reporting.style import class_sheet

    members = of_split(images, "members")
    return class_sheet({"private": members, "recycled": recycled_set})
