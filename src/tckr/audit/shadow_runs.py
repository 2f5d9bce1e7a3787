"""Shadows of a run: their configuration from its tables, their plan, their training and what is kept of them."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tckr.audit.options import AuditOptions, AuditRuntime, Scope
from tckr.audit.tables import (
    RELEASED,
    Tensors,
    as_tensors,
    audited_images,
    is_member,
    memberships,
    queried_rows,
    synthetic_sets,
)
from tckr.classifiers.options import ClassifierOptions, DistillationOptions
from tckr.engine import resolve_workers
from tckr.engine.device import best
from tckr.engine.places import place
from tckr.engine.seeds import derive
from tckr.images.tables import class_names, images_and_labels, owners

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tckr.audit.results import Plan
    from tckr.audit.resynthesis import OwnTeacher, Resynthesis
    from tckr.audit.shadow_config import ShadowConfig

logger = logging.getLogger(__name__)


def shadow_config(
    images: pd.DataFrame,
    stored: "pd.DataFrame | Tensors",
    recipe: Mapping[str, Any],
    options: AuditOptions,
    seed: int,
    resynthesis: "Resynthesis | None" = None,
    own_teacher: "OwnTeacher | None" = None,
) -> "ShadowConfig":
    """Return what each shadow repeats: the recipe of the target students, on fixed sets or on sets made again.

    Args:
        images: image table of the private set.
        stored: the released synthetic sets, see `synthetic_sets`.
        recipe: of the target students: classifier, distillation, steps, classes, students.
        options: of the audit.
        seed: of the run.
        resynthesis: with it each shadow makes its own sets (scope `pipeline`).
        own_teacher: of an arm that does not take the classifier's recipe for its teacher.
    """
    from tckr.audit import attacker, attribution
    from tckr.audit.shadow_config import ShadowConfig, StudentConfig
    from tckr.audit.signals import STUDENT

    audited = audited_images(images)
    pixels, labels = images_and_labels(audited)
    classifier = ClassifierOptions.model_validate(recipe["classifier"])
    students = {name: StudentConfig(**plan) for name, plan in students_of(recipe, stored).items()}
    views = attacker.labels_of(stored)[1] if isinstance(stored, pd.DataFrame) else 1
    weights = weights_queries(classifier, options) if STUDENT in students else 0
    sets = synthetic_sets(stored) if resynthesis is None else {}
    if resynthesis is not None and options.attribution:
        channels = resynthesis.synthesizer.open_channels
        students |= attribution.student_configs(recipe["distillation"]["labels"], channels)
    return ShadowConfig(
        pixels,
        labels,
        n_classes=len(recipe["classes"]),
        steps=recipe["steps"],
        classifier=classifier,
        distillation=DistillationOptions.model_validate(recipe["distillation"]),
        seed=derive(seed, "shadows"),
        students=students,
        pools=sets,
        resynthesis=resynthesis,
        own_teacher=own_teacher,
        queries=options.queries,
        weights_queries=weights,
        views=views,
        members=int(is_member(audited).sum()),
        attacker=options.attacker,
        device=best(),
        stack=options.stack,
    )


def students_of(
    recipe: Mapping[str, Any], stored: "pd.DataFrame | Tensors"
) -> dict[str, dict[str, Any]]:
    """Return what each student learns from, by name: those of the recipe and, of a set that is handed out, the attacker's."""
    from tckr.audit import attacker

    students = dict(recipe["students"])
    if isinstance(stored, pd.DataFrame):
        labels, _ = attacker.labels_of(stored)
        students[attacker.RELEASED] = {"pool": RELEASED, "labels": labels, "attacker": True}
    return students


def released_models(students: Mapping[str, Mapping[str, Any]], scope: Scope) -> dict[str, str]:
    """Return the classifiers that a holder of the release can query, in words, but for those of which a scope shows nothing.

    >>> recipe = {"student": {"labels": "hard"}, "released": {"labels": "stored"}, "other": {"labels": "stored"}}
    >>> released_models(recipe, "distillation")
    {'released': 'recycled set'}
    >>> released_models(recipe, "pipeline")
    {'weights': 'student', 'released': 'recycled set'}
    """
    from tckr.audit import attacker
    from tckr.audit.audit import blind
    from tckr.audit.signals import STUDENT, WEIGHTS

    named = ((STUDENT, WEIGHTS, "student"), (attacker.RELEASED, attacker.RELEASED, "recycled set"))
    return {
        scores: title
        for student, scores, title in named
        if student in students and not blind(scope, students[student]["labels"])
    }


def weights_queries(classifier: ClassifierOptions, options: AuditOptions) -> int:
    """Return with how many views a student is queried whose weights are held: as many as its augmentation has, at most."""
    from tckr.audit.signals import every_view

    return min(options.weights_queries, len(every_view(classifier.augmentation)))


def resynthesize(
    images: pd.DataFrame,
    synthesizer: Any,
    known: Mapping[str, pd.DataFrame],
    count: int,
    options: AuditOptions,
    seed: int,
    draws: float = 1.0,
) -> "Resynthesis":
    """Return how each shadow makes its own synthetic sets.

    Args:
        images: image table of the private set.
        synthesizer: the target's.
        known: per-image artefacts of all audited images, by name, with `image_id`.
        count: images of each set.
        options: of the audit.
        seed: of the run.
        draws: images that were drawn of the target's set for each that stayed.
    """
    from tckr.audit import attribution
    from tckr.audit.resynthesis import Resynthesis

    audited = audited_images(images)
    aligned = {
        name: table.set_index("image_id").loc[audited["image_id"]].reset_index()
        for name, table in known.items()
    }
    closed: dict[str, tuple[str, ...]] = {RELEASED: ()}
    if options.attribution:
        closed |= attribution.sets(synthesizer.open_channels)
    queries_generator = "generator" in synthesizer.open_threats
    return Resynthesis(
        synthesizer,
        class_names(images),
        aligned,
        count,
        closed,
        options.generator if queries_generator else None,
        queried_rows(audited, images, options, seed).tolist() if queries_generator else [],
        draws,
        owners(audited),
    )


def plan_shadows(repeated: "ShadowConfig", options: AuditOptions) -> dict[str, Any]:
    """Probe the machine, say how long the shadows will take, and decide their number; see `tckr.audit.budget`.

    A resumed audit keeps the number of shadows chosen at the start, because changing it would invalidate the finished
    ones.

    Returns:
        The plan, and the fingerprints of the shadows' work and of the teachers that other arms may share, by which checkpoints
        are found.
    """
    from tckr.audit.budget import plan
    from tckr.engine.checkpoint import write_whole

    processes, _ = resolve_workers()
    mark = repeated.fingerprint()
    kept = _plan_file(mark, options)
    decided = None if kept is None else _saved_plan(kept)
    if decided is None:
        decided = plan(repeated, options, processes or options.workers)
    if kept is not None:
        content = decided.model_dump_json().encode()
        write_whole(kept, lambda file: file.write(content))
    why = "" if decided.n_shadows == decided.requested else f" ({decided.requested} do not fit)"
    logger.info(
        "%s shadow groups%s, about %.1f minutes (%.1f s each, %s at once).",
        decided.n_shadows,
        why,
        decided.minutes,
        decided.seconds_per_group,
        decided.workers,
    )
    shared = repeated.teachers_fingerprint() if repeated.own_teacher is None else None
    marks = {"fingerprint": mark, "teachers": shared}
    return {**decided.model_dump(mode="json"), **marks}


def _plan_file(mark: str, options: AuditOptions) -> Path | None:
    if options.checkpoints is None:
        return None
    name = f"plan_{options.n_shadows}_{options.time_budget_minutes}.json"
    return place(options.checkpoints) / mark / name


def _saved_plan(file: Path) -> "Plan | None":
    """Return the plan of an interrupted audit; one that cannot be read is made again."""
    from tckr.audit.results import Plan

    try:
        return Plan.model_validate_json(file.read_text())
    except (OSError, ValueError):
        return None


def train_shadows(
    repeated: "ShadowConfig",
    membership_table: pd.DataFrame,
    audited: pd.DataFrame,
    options: AuditOptions,
) -> Tensors:
    """Train every shadow and score every audited image with it: float32 (S, N, Q) by model."""
    from tckr.audit.shadow_models import run_shadows

    workers, devices = resolve_workers()
    scores = run_shadows(
        repeated,
        memberships(membership_table, audited),
        workers=workers or options.workers,
        devices=devices,
        folder=place(options.checkpoints) if options.checkpoints else None,
    )
    return as_tensors(scores)


def forget_checkpoints(options: AuditRuntime, plan: Mapping[str, Any]) -> None:
    """Remove the finished shadow groups of this audit, once their scores are in the catalog.

    Their teachers stay until the run ends, since the audits of other arms may have the same.
    """
    from tckr.engine.checkpoint import Checkpoints
    from tckr.engine.once_saved import once_over

    if options.checkpoints is None or plan.get("fingerprint") is None:
        return
    folder = place(options.checkpoints) / plan["fingerprint"]
    for file in folder.glob("plan_*.json"):
        file.unlink(missing_ok=True)
    Checkpoints(folder).remove()
    if mark := plan.get("teachers"):
        once_over(Checkpoints(place(options.checkpoints) / mark).remove)


def score_models(
    images: pd.DataFrame,
    models: Mapping[str, Any],
    recipe: Mapping[str, Any],
    options: AuditOptions,
) -> Tensors:
    """Logit-scaled confidence of every model in every audited image, float32 (N, Q) by model."""
    from tckr.audit.signals import STUDENT, WEIGHTS, model_scores

    audited = audited_images(images)
    pixels, labels = images_and_labels(audited)
    classifier = ClassifierOptions.model_validate(recipe["classifier"])

    def scored(model: Any, queries: int) -> "NDArray[np.float32]":
        return model_scores(model.to(best()), pixels, labels, queries, classifier.augmentation)

    scores = {name: scored(model, options.queries) for name, model in models.items()}
    if STUDENT in models:
        scores[WEIGHTS] = scored(models[STUDENT], weights_queries(classifier, options))
    return as_tensors(scores)
