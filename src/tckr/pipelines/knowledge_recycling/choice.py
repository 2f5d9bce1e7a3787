"""The student says which snapshot of the generator is sampled, and how."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from PIL import Image

from tckr.classifiers.options import ClassifierOptions
from tckr.engine.device import best
from tckr.engine.seeds import derive
from tckr.images.tables import images_and_labels, of_split
from tckr.options import recipe as recipe_of
from tckr.pipelines.types import Classifier
from tckr.synthesizers.base import Synthesizer
from tckr.synthesizers.private_set import PublicFacts

if TYPE_CHECKING:
    from tckr.engine.checkpoint import Checkpoints
    from tckr.synthesizers.choice import Choice

SPLIT = "validation"  # in neither members nor holdout, and never the test split


def choose_generator(
    synthesizer: Synthesizer,
    artefacts: Mapping[str, Any],
    images: pd.DataFrame,
    public_facts: dict[str, Any],
    teacher: Classifier,
    teacher_recipe: dict[str, Any],
    seed: int,
) -> tuple[dict[str, Any], pd.DataFrame, Image.Image, dict[str, Any]]:
    """Choose by short students, scored on the validation images; see `tckr.synthesizers.choice`.

    Returns:
        The choice, which shadows repeat; a row for each student; their accuracies as a picture; `described`, in sentences
        what was chosen and what it cost, and `figures` of that for MLflow.

    Raises:
        UserError: the arm is under differential privacy, or there is no validation image.
    """
    from tckr.engine import durable
    from tckr.engine.content import content_hash
    from tckr.engine.once_saved import once_saved
    from tckr.synthesizers.choice import (
        as_table,
        check_may_choose,
        check_validation,
        choose,
        the_last,
    )
    from tckr.synthesizers.students import Examiner

    check_may_choose(synthesizer)
    choosing = synthesizer.generator_choice  # type: ignore[attr-defined]  # of arms that choose
    if choosing.nothing:
        return _told(the_last(synthesizer, artefacts), as_table([]))
    validation = of_split(images, SPLIT)
    check_validation(len(validation))
    pixels, labels = images_and_labels(validation)
    recipe = ClassifierOptions.model_validate(teacher_recipe["classifier"])
    own = derive(seed, "generator_choice")
    work = (
        synthesizer.drawing(), recipe_of({"knowledge_recycling": synthesizer.knowledge_recycling}), dict(artefacts), public_facts, teacher.state_dict(), recipe.model_dump(mode="json"),
        teacher_recipe["steps"], choosing.model_dump(mode="json", exclude={"checkpoints", "workers"}),
        [pixels, labels], own, best(),
    )  # fmt: skip
    name = content_hash(*work)
    scores = durable(name, choosing.checkpoints)
    study = Path(choosing.checkpoints) / name if choosing.checkpoints else None
    examiner = Examiner(
        artefacts,
        PublicFacts(**public_facts),
        teacher.to(best()),
        recipe,
        teacher_recipe["steps"],
        choosing.student,
        (pixels, labels),
        own,
        best(),
        scores,
        study,
    )
    choice, students = choose(synthesizer, choosing, examiner)
    teacher.to("cpu")
    once_saved(lambda: forget(scores, study))
    return _told(choice, students)


def _told(
    choice: "Choice", students: pd.DataFrame
) -> tuple[dict[str, Any], pd.DataFrame, Image.Image, dict[str, Any]]:
    """Return the choice as the catalog keeps it, with its students, picture and report."""
    from tckr.reporting.choice import draw_choice, say_choice

    told = choice.model_dump(mode="json")
    figures = {
        "choice.students": float(len(students)),
        "choice.images": float(students["images"].sum()),
        "choice.minutes": float(students["seconds"].sum()) / 60,
    }
    report = {
        "described": say_choice(told, students),
        "figures": figures if len(students) else {},
    }
    return told, students, draw_choice(students), report


def forget(scores: "Checkpoints | None", study: Path | None) -> None:
    """Remove what a choice kept to go on from: its scores and its study."""
    from tckr.synthesizers.tuning import STUDY

    if study is not None:
        (study / STUDY).unlink(missing_ok=True)
    if scores is not None:
        scores.remove()
    if study is not None:
        with suppress(OSError):  # not empty, or not there
            study.rmdir()
