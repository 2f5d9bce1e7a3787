"""Teacher, synthetic images, soft labels."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from tckr.classifiers.names import named
from tckr.classifiers.options import ClassifierOptions
from tckr.engine.device import best
from tckr.engine.seeds import derive
from tckr.errors import UserError
from tckr.images.degenerate import (
    check_captions,
    check_distinct,
    check_labels,
    check_teacher,
    count_blank,
    log,
    validation_facts,
    with_warnings,
)
from tckr.images.tables import class_names, images_and_labels, of_split, with_class_names
from tckr.pipelines.arm import aligned
from tckr.pipelines.types import Classifier
from tckr.synthesizers.base import Fitted, Synthesizer


def train_teacher(
    images: pd.DataFrame, recipe: ClassifierOptions, seed: int
) -> tuple[Classifier, dict[str, Any]]:
    """Train a classifier on the members alone; see `tckr.classifiers.distillation`.

    Returns:
        The teacher, and its recipe in full: the student and every shadow are trained by it, not by what the
        configuration says when their turn comes. It also says how many validation images the teacher classifies right.

    Raises:
        UserError: its training diverged.
    """
    from tckr.classifiers import distillation

    members = of_split(images, "members")
    pixels, labels = images_and_labels(members)
    names, steps = class_names(images), recipe.steps(len(members))
    teacher = distillation.train_teacher(
        pixels, labels, recipe, derive(seed, "teacher"), len(names), steps=steps, device=best()
    )
    facts = _validate(teacher, of_split(images, "validation"))
    log(check_teacher(facts))
    described = {"classifier": recipe.model_dump(mode="json"), "steps": steps, "classes": names}
    return named(teacher, names), {**described, "validation": facts}


def _validate(teacher: Classifier, validation: pd.DataFrame) -> dict[str, int]:
    """Count the validation images that a teacher classifies right; see `check_teacher`."""
    from tckr.classifiers.predict import logits

    if validation.empty:
        return validation_facts(np.zeros(0, np.int64), np.zeros(0, np.int64))
    pixels, labels = images_and_labels(validation)
    predicted = logits(teacher.to(best()), pixels)
    teacher.to("cpu")
    if not predicted.isfinite().all():
        raise UserError(
            "The teacher's outputs are not finite: its training diverged.",
            "lower classifier.learning_rate.",
        )
    return validation_facts(predicted.argmax(1).numpy(), labels.numpy())


def generate_images(
    synthesizer: Synthesizer, artefacts: Mapping[str, Any], images: pd.DataFrame, seed: int
) -> pd.DataFrame:
    """Draw class-balanced prompts and the synthetic images they describe; see `tckr.synthesizers`.

    Returns:
        An image table of `cardinality` times the members, all in split "train", with the prompts.

    Raises:
        UserError: all images are equal, or not finite.
    """
    fitted = fitted_on_members(synthesizer, artefacts, images)
    count = synthesizer.knowledge_recycling.n_images(len(fitted.labels))
    plan = fitted.plan_prompts(count, seed)
    batches = fitted.draw(plan["prompt"].tolist(), seed)
    with ThreadPoolExecutor() as pool:  # encode each batch to PNG while the next one is generated
        parts = list(pool.map(content, batches))
    columns = {name: list(chain(*(part[name] for part in parts))) for name in parts[0]}
    check_distinct(columns["image_id"])
    names = dict(enumerate(fitted.class_names))
    facts = {"split": "train", **synthesizer.provenance()}
    table = plan.assign(class_name=plan["label"].map(names), **facts, **columns)
    return with_class_names(table, fitted.class_names)


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
    teacher_recipe: dict[str, Any] | None = None,
) -> tuple[pd.DataFrame, list[dict[str, str]]]:
    """Add the teacher's class probabilities, so that the set can be used without it; leave out the prompts.

    With `release_prompts` they stay in. An arm that labels by its prompts has no teacher here.

    Returns:
        The set that may be released, and what is poor about it and what it was made from, `about` and `text` each.

    Raises:
        UserError: the images are blank, or the teacher's probabilities are not finite.
    """
    from tckr.classifiers.predict import soft_labels
    from tckr.images.tensors import to_tensor

    withheld = [] if synthesizer.knowledge_recycling.release_prompts else ["prompt"]
    released = synthetic_images.drop(columns=withheld)
    pixels = to_tensor(synthetic_images["image"])
    found = check_distinct(synthetic_images["image_id"].tolist(), count_blank(pixels))
    probabilities = None
    if teacher is not None:
        probabilities = soft_labels(teacher.to(best()), pixels).numpy()
        released = released.assign(soft_label=list(probabilities))
    labels = synthetic_images["label"].to_numpy(dtype=np.int64)
    found += check_labels(labels, probabilities, class_names(synthetic_images))
    log(found)
    earlier = check_captions(artefacts["captions"]["caption"]) if "captions" in artefacts else []
    if teacher_recipe is not None:
        earlier += check_teacher(teacher_recipe["validation"])
    found = [*earlier, *found]  # those were logged when they were found
    return with_warnings(released, found), [warning._asdict() for warning in found]


def draw_recycled_sheet(images: pd.DataFrame, recycled_set: pd.DataFrame) -> Image.Image:
    """Show private and recycled images of every class, one row each."""
    from tckr.reporting.style import class_sheet

    members = of_split(images, "members")
    return class_sheet({"private": members, "recycled": recycled_set})
