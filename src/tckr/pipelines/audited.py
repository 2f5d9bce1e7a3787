"""What every audit of classifiers shares: the experiment of the shadows, their training, the attacks and their figures."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tckr.audit.options import AuditOptions, Scope
from tckr.classifiers.options import ClassifierOptions, DistillationOptions
from tckr.engine.device import best
from tckr.engine.seeds import derive
from tckr.images.tables import images_and_labels
from tckr.pipelines.membership import (
    as_arrays,
    as_tensors,
    audited_images,
    is_member,
    memberships,
)
from tckr.pipelines.types import Classifier, Tensors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tckr.audit.recycling import Pool, Recycling
    from tckr.audit.results import ModelAudit
    from tckr.audit.shadow_models import Experiment, StudentPlan


def at_once() -> tuple[int, list[str]]:
    """Processes that work side by side: none given on a CPU (0), one each on several GPUs; and those."""
    from tckr.engine import visible_cards

    cards = visible_cards() if best() == "cuda" else []
    return (0, []) if not cards else (len(cards), cards if len(cards) > 1 else [])


def experiment(
    audited: pd.DataFrame,
    recipe: Mapping[str, Any],
    options: AuditOptions,
    seed: int,
    *,
    students: "Mapping[str, StudentPlan]",
    pools: "Mapping[str, Pool]",
    recycling: "Recycling | None" = None,
) -> "Experiment":
    """What each shadow repeats.

    Args:
        audited: image table of members and holdout.
        recipe: a target student's: classifier, distillation, steps, classes.
    """
    from tckr.audit.shadow_models import Experiment

    pixels, labels = images_and_labels(audited)
    return Experiment(
        pixels,
        labels,
        n_classes=len(recipe["classes"]),
        steps=recipe["steps"],
        classifier=ClassifierOptions.model_validate(recipe["classifier"]),
        distillation=DistillationOptions.model_validate(recipe["distillation"]),
        seed=derive(seed, "shadows"),
        students=students,
        pools=pools,
        recycling=recycling,
        queries=options.queries,
        device=best(),
        stack=options.stack,
    )


def plan_shadows(repeated: "Experiment", options: AuditOptions) -> dict[str, Any]:
    """Probe the machine, say how long the shadows will take, and decide their number; see `tckr.audit.budget`.

    A killed audit goes on with the number that it had decided: another would need other shadows.
    """
    import logging

    from tckr.audit.budget import plan
    from tckr.audit.results import Plan

    processes, _ = at_once()
    kept = _plan_file(repeated, options)
    if kept is not None and kept.exists():
        decided = Plan.model_validate_json(kept.read_text())
    else:
        decided = plan(repeated, options, processes or options.workers)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(decided.model_dump_json())
    why = "" if decided.n_shadows == decided.asked_for else f" ({decided.asked_for} do not fit)"
    logging.getLogger(__name__).info(
        "%s shadow groups%s, about %.1f minutes (%.1f s each, %s at once).",
        decided.n_shadows,
        why,
        decided.minutes,
        decided.seconds_per_group,
        decided.at_once,
    )
    return decided.model_dump()


def _plan_file(repeated: "Experiment", options: AuditOptions) -> "Path | None":
    if options.checkpoints is None:
        return None
    asked = f"{options.n_shadows}_{options.time_budget_minutes}"
    return Path(options.checkpoints) / f"plan_{repeated.fingerprint()}_{asked}.json"


def train_shadows(
    repeated: "Experiment",
    membership_table: pd.DataFrame,
    audited: pd.DataFrame,
    options: AuditOptions,
) -> Tensors:
    """Train every shadow and score every audited image with it: float32 (S, N, Q) by model."""
    from tckr.audit.shadow_models import run_shadows

    _, cards = at_once()
    scores = run_shadows(
        repeated,
        memberships(membership_table, audited),
        workers=options.workers if repeated.device == "cpu" else 1,
        cards=cards,
        folder=Path(options.checkpoints) if options.checkpoints else None,
    )
    return as_tensors(scores, audited)


def forget_checkpoints(options: AuditOptions) -> None:
    """Remove finished shadow groups, once their scores are in the catalog."""
    from tckr.engine.checkpoint import Checkpoints

    if options.checkpoints:
        Checkpoints(Path(options.checkpoints)).remove()


def score_models(
    images: pd.DataFrame,
    models: Mapping[str, Classifier],
    recipe: Mapping[str, Any],
    options: AuditOptions,
) -> Tensors:
    """Logit-scaled confidence of every model in every audited image, float32 (N, Q) by model."""
    from tckr.audit.signals import model_scores

    audited = audited_images(images)
    pixels, labels = images_and_labels(audited)
    augmentation = ClassifierOptions.model_validate(recipe["classifier"]).augmentation
    scores = {
        name: model_scores(model.to(best()), pixels, labels, options.queries, augmentation)
        for name, model in models.items()
    }
    return as_tensors(scores, audited)


def image_features(options: AuditOptions, *tables: pd.DataFrame) -> "list[NDArray[np.float32]]":
    """Features (N, D) of the images of each table, by the encoder that the audit names."""
    from tckr.images.tensors import to_tensor
    from tckr.text.clip import image_embeddings, load_clip

    clip = load_clip(options.release.encoder, best())
    return [image_embeddings(clip, to_tensor(table["image"])).numpy() for table in tables]


def attack_models(
    accuracies: Mapping[str, float],
    audited: pd.DataFrame,
    target_scores: Tensors,
    shadow_scores: Tensors,
    membership_table: pd.DataFrame,
    features: "NDArray[np.float32]",
    options: AuditOptions,
) -> "dict[str, ModelAudit]":
    """Attack every model of `accuracies` (percent); see `tckr.audit.audit`. `teacher` alone is no student."""
    from tckr.audit.audit import audit

    inside = memberships(membership_table, audited)
    targets, shadows = as_arrays(target_scores, audited), as_arrays(shadow_scores, audited)
    classes = np.eye(int(audited["label"].max()) + 1, dtype=np.float32)[audited["label"]]
    # The canaries' classes are wrong on purpose: what an attacker would give for theirs.
    canary = audited["canary"].to_numpy(dtype=bool) if "canary" in audited else None
    scope: Scope = options.scope
    return {
        model: audit(
            targets[model],
            shadows[model],
            inside,
            is_member(audited),
            accuracy_percent=accuracy,
            options=options,
            scope="classifier" if model == "teacher" else scope,
            features=np.hstack([features, classes]),
            canary=canary,
        )
        for model, accuracy in accuracies.items()
    }
