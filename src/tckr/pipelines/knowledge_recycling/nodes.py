"""Teacher, synthetic images, soft labels."""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image

from tckr.classifiers.names import named
from tckr.classifiers.options import ClassifierOptions
from tckr.engine.device import best
from tckr.engine.once_saved import once_saved
from tckr.engine.seeds import derive
from tckr.errors import UserError
from tckr.images.degenerate import (
    RunWarning,
    check_captions,
    check_distinct,
    check_labels,
    check_prompts,
    check_teacher,
    count_blank,
    log,
    validation_facts,
    with_warnings,
)
from tckr.images.names import metric_name, one_line
from tckr.images.tables import (
    DESCRIBED,
    SLICE,
    UNFINISHED,
    VIEWS,
    class_names,
    images_and_labels,
    of_split,
    with_class_names,
)
from tckr.pipelines.arm import aligned
from tckr.pipelines.types import Classifier
from tckr.synthesizers.base import Synthesizer
from tckr.synthesizers.filtering import DRAW, check_rejected, draws_per_image, rejected
from tckr.synthesizers.fitted import Fitted
from tckr.synthesizers.mixture import SOURCE
from tckr.synthesizers.private_set import PrivateSet, PublicFacts
from tckr.synthesizers.recycling import RecyclingOptions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tckr.engine.checkpoint import Checkpoints
    from tckr.images.unfinished import Unfinished

logger = logging.getLogger(__name__)


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


def fit_mixture(
    synthesizer: Synthesizer, artefacts: Mapping[str, Any], images: pd.DataFrame, seed: int
) -> list[dict[str, Any]]:
    """Fit the further generators of a mixture on the members; see `Synthesizer.fit_mixture`."""
    if not synthesizer.knowledge_recycling.mixture:
        return []
    members = of_split(images, "members")
    private = PrivateSet(*images_and_labels(members), class_names(images))
    known = aligned(artefacts, synthesizer, members)
    return synthesizer.fit_mixture(private, seed, best(), known)


def generate_images(
    synthesizer: Synthesizer,
    artefacts: Mapping[str, Any],
    public_facts: dict[str, Any],
    seed: int,
    teacher: Classifier = None,
    mixture: Sequence[Mapping[str, Any]] = (),
) -> pd.DataFrame:
    """Draw class-balanced prompts and the synthetic images they describe; see `tckr.synthesizers`.

    The private images are not among the inputs; what comes from them, comes through the arm's artefacts, and through
    the teacher where it filters.

    Returns:
        An image table of `cardinality` times the members in each slice, all in split "train", with the prompts; of
        several slices with their numbers in `slice`; filtered, with `draw` (`tckr.synthesizers.filtering`); of several
        generators with their names in `source` (`tckr.synthesizers.mixture`).

    Raises:
        UserError: all images are equal, or not finite, or the teacher accepts too few of a class.
    """
    fitted = fitted_on_members(synthesizer, artefacts, public_facts, teacher, mixture)
    options = synthesizer.knowledge_recycling
    count = options.n_images(fitted.facts.n_members)
    drawn, plan = draw(fitted, fitted.plan_prompts(count, seed), seed)
    check_distinct(plan["image_id"].tolist())
    names = dict(enumerate(fitted.class_names))
    table = plan.assign(
        class_name=plan["label"].map(names), split="train", **synthesizer.provenance()
    )
    if SOURCE in table:
        table = _with_sources(table, synthesizer)
    if options.slices > 1:
        table[SLICE] = np.arange(count) // (count // options.slices)
    table = with_class_names(table, fitted.class_names)
    if drawn.folder is not None:
        table.attrs[UNFINISHED] = str(drawn.folder)  # needed until the table is saved
    return table


def draw(fitted: Fitted, plan: pd.DataFrame, seed: int) -> "tuple[Unfinished, pd.DataFrame]":
    """Draw an image for each row of a plan, each batch written to disk as it comes.

    If the arm's `knowledge_recycling.checkpoints` names a folder, a drawing that was interrupted is found there by all
    that decides its images, and goes on. Rejected images stay there until the table is saved.

    Returns:
        All that was drawn, and the plan with the `image` of each row, its `image_id` and, if filtered, its own prompt.
    """
    from tckr.classifiers.labelling import soft_labels_of
    from tckr.images.unfinished import Unfinished

    prompts = plan["prompt"].tolist()

    place = fitted.synthesizer.knowledge_recycling.checkpoints
    try:
        work = Path(place) / fitted.drawing(prompts, seed) if place else None
    except (
        TypeError
    ):  # an artefact whose content cannot be compared: its drawing cannot be found again
        work = None
    drawn = Unfinished(work)
    if not fitted.filters():
        go_on(drawn, fitted, plan, seed)
        return drawn, plan.assign(image_id=drawn.image_ids, image=drawn.images)

    def judge(rows: "NDArray[np.int64]", start: int) -> "NDArray[np.float32]":
        go_on(drawn, fitted.for_round(start, len(rows)), plan.iloc[rows], seed)
        # As a whole, so that a drawing which was interrupted in between is judged alike.
        return soft_labels_of(fitted.judge, drawn.images[start : len(rows)]).numpy()

    numbers, filled = fitted.fill(plan, judge)
    ids = [drawn.image_ids[number] for number in numbers]
    return drawn, filled.assign(image_id=ids, image=drawn.images[numbers])


def _with_sources(table: pd.DataFrame, synthesizer: Synthesizer) -> pd.DataFrame:
    """Say by its name which generator of a mixture drew each image, and what that generator is."""
    mixture = synthesizer.knowledge_recycling.mixture
    arms = [synthesizer, *(each.synthesizer or synthesizer for each in mixture)]
    provenance = [arm.provenance() for arm in arms]
    facts = {
        name: [provenance[number].get(name, "") for number in table[SOURCE]]
        for name in dict.fromkeys(name for each in provenance for name in each)
    }
    named = table[SOURCE].map(dict(enumerate(synthesizer.knowledge_recycling.sources)))
    return table.assign(**facts, **{SOURCE: named})


def go_on(drawn: "Unfinished", fitted: Fitted, plan: pd.DataFrame, seed: int) -> None:
    """Draw the images of a plan that are still missing."""
    from tckr.engine.overlap import behind

    if (done := len(drawn)) >= len(plan):
        return
    if done:
        logger.info("Going on after %s of %s synthetic images.", f"{done:,}", f"{len(plan):,}")
    batches = fitted.draw_planned(done, plan, seed)
    with ThreadPoolExecutor(1) as pool:  # encode each batch to PNG while the next one is generated
        for encoded in behind(pool.submit(content, batch) for batch in batches):
            drawn.append(**encoded.result())


def fitted_on_members(
    synthesizer: Synthesizer,
    artefacts: Mapping[str, Any],
    public_facts: Mapping[str, Any],
    teacher: Classifier = None,
    mixture: Sequence[Mapping[str, Any]] = (),
) -> Fitted:
    """Return the synthesizer as its steps left it, ready to sample.

    Raises:
        UserError: the further generators are not those of the options.
    """
    facts = PublicFacts(**public_facts)
    further = synthesizer.with_unfitted(mixture)
    return Fitted(synthesizer, facts, artefacts, best(), teacher, further)


def content(images: Any) -> dict[str, list[Any]]:
    """Return the ids and PNGs of uint8 images (N, C, H, W)."""
    from tckr.images.prepare import image_id
    from tckr.images.tensors import to_pil, to_png

    ids = [image_id(to_pil(pixels)) for pixels in images.permute(0, 2, 3, 1).numpy()]
    return {"image_ids": ids, "images": to_png(images)}


def label_images(
    synthesizer: Synthesizer,
    artefacts: Mapping[str, Any],
    synthetic_images: pd.DataFrame,
    teacher: Classifier = None,
    teacher_recipe: dict[str, Any] | None = None,
) -> tuple[pd.DataFrame, list[dict[str, str]]]:
    """Add the teacher's class probabilities, so that the set can be used without it; leave out the prompts.

    They say as much as the recipe's `soft_labels` let them. With `release_prompts` they stay in. An arm that labels by its prompts has no teacher here.

    Returns:
        The set that may be released, and what is poor about it and what it was made from, `about` and `text` each.

    Raises:
        UserError: the images are blank, or the teacher's probabilities are not finite.
    """
    withheld = [] if synthesizer.knowledge_recycling.release_prompts else ["prompt"]
    released = synthetic_images.drop(columns=withheld)
    images = synthetic_images["image"]
    prompts = synthetic_images["prompt"].tolist()
    found = check_prompts(len(prompts), synthesizer.count_cut(prompts))
    found += check_distinct(synthetic_images["image_id"].tolist(), count_blank(images))
    probabilities, described = None, synthesizer.knowledge_recycling.described()
    if teacher is not None:
        options = synthesizer.knowledge_recycling
        recipe = ClassifierOptions.model_validate((teacher_recipe or {}).get("classifier", {}))
        released, probabilities = _labelled(released, teacher, options, recipe)
        if not recipe.soft_labels.plain:
            described = [*described, recipe.soft_labels.described()]
    labels = synthetic_images["label"].to_numpy(dtype=np.int64)
    found += check_labels(labels, probabilities, class_names(synthetic_images))
    if DRAW in synthetic_images:
        found += check_rejected(rejected(synthetic_images, class_names(synthetic_images)))
    if (caution := synthesizer.caution()) is not None:
        found.insert(0, RunWarning("privacy", caution))
    log(found)
    earlier = check_captions(artefacts["captions"]["caption"]) if "captions" in artefacts else []
    if teacher_recipe is not None:
        earlier += check_teacher(teacher_recipe["validation"])
    found = [*earlier, *found]  # those were logged when they were found
    released.attrs[DESCRIBED] = described
    return with_warnings(released, found), [warning._asdict() for warning in found]


def describe_drawing(
    synthesizer: Synthesizer, artefacts: Mapping[str, Any], synthetic_images: pd.DataFrame
) -> dict[str, Any]:
    """Say which options of the drawing were on, and what became of it.

    Returns:
        `described`, a sentence for each option that was on, and `figures` for MLflow: with a filter the shares of images
        that the teacher rejected in percent, `rejected` of all, and `rejected.<name>` of each class; of a mixture how many
        images each generator drew, `source.<name>`.
    """
    del artefacts
    options = synthesizer.knowledge_recycling
    described, of_sources = options.described(), {}
    if SOURCE in synthetic_images:
        counts = synthetic_images[SOURCE].value_counts()
        by_name = {name: int(counts.get(name, 0)) for name in options.sources}
        told = "; ".join(f"{name} {count:,}" for name, count in by_name.items())
        described.append(f"Images by generator: {told}.")
        of_sources = {f"source.{metric_name(name)}": float(by_name[name]) for name in by_name}
    if DRAW not in synthetic_images:
        return {"described": described, "figures": of_sources}
    shares = rejected(synthetic_images, class_names(synthetic_images))
    of_all = 1 - 1 / draws_per_image(synthetic_images)
    by_class = ", ".join(f"{one_line(name)} {share:.1%}" for name, share in shares.items())
    told = f"The teacher rejected {of_all:.1%} of what was drawn: {by_class}.".replace("%", " %")
    figures = {f"rejected.{metric_name(name)}": 100 * share for name, share in shares.items()}
    figures = {"rejected": 100 * of_all, **figures, **of_sources}
    return {"described": [*described, told], "figures": figures}


def _labelled(
    released: pd.DataFrame,
    teacher: Classifier,
    options: RecyclingOptions,
    recipe: ClassifierOptions,
) -> "tuple[pd.DataFrame, NDArray[np.float32]]":
    """Add what the recipe tells of each image's soft label, and return what the teacher thinks; say which views were labelled.

    With `stored_views` the labels of fixed views that lie within the recipe's augmentation are added too. Labelling that was
    interrupted goes on.
    """
    from tckr.classifiers.fixed_views import fixed_views
    from tckr.classifiers.labelling import labels_of_encoded, soft_labels_of, unfinished_labels
    from tckr.classifiers.soft_labels import soften

    teacher.to(best())
    images, ids = released["image"].array, released["image_id"].tolist()
    unfinished = unfinished_labels(teacher, ids, options.checkpoints)
    thought = soft_labels_of(teacher, images, unfinished)
    labelled = released.assign(soft_label=list(soften(thought, recipe.soft_labels).numpy()))
    _forget_once_saved(unfinished)
    if (count := options.stored_views) > 1:
        limits = recipe.augmentation
        unfinished = unfinished_labels(
            teacher, ids, options.checkpoints, count, limits.model_dump(mode="json")
        )
        soft = labels_of_encoded(teacher, images, count, limits, unfinished)
        _forget_once_saved(unfinished)
        labelled = labelled.assign(soft_labels=list(soften(soft, recipe.soft_labels).numpy()))
        labelled.attrs[VIEWS] = [list(view) for view in fixed_views(count, limits)]
    return labelled, thought.numpy()


def _forget_once_saved(unfinished: "Checkpoints | None") -> None:
    if unfinished is not None:
        once_saved(unfinished.remove)


def draw_recycled_sheet(images: pd.DataFrame, recycled_set: pd.DataFrame) -> Image.Image:
    """Show private and recycled images of every class, one row each."""
    from tckr.reporting.style import class_sheet

    members = of_split(images, "members")
    return class_sheet({"private": members, "recycled": recycled_set})
