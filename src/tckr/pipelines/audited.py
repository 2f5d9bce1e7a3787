"""What every audit of classifiers shares: the audited images, the experiment of the shadows, their scores and figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tckr.classifiers.options import ClassifierOptions, DistillationOptions
from tckr.membership.options import AuditOptions, Scope
from tckr.pipelines.device import best
from tckr.pipelines.tensors import images_and_labels, of_split
from tckr.pipelines.types import Classifier, Tensors
from tckr.seeds import derive

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tckr.membership.experiment import Experiment, StudentPlan
    from tckr.membership.recycling import Pool, Recycling

SPLITS = ("members", "holdout")
EXAMPLES = "examples"  # which images a table of scores is of


def audited_images(images: pd.DataFrame) -> pd.DataFrame:
    """Members and holdout, in the table's own order."""
    return of_split(images, *SPLITS)


def is_member(audited: pd.DataFrame) -> "NDArray[np.bool_]":
    """True for members, (N,)."""
    return (audited["split"] == "members").to_numpy()


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
    from tckr.membership.experiment import Experiment

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
    """Probe the machine, say how long the shadows will take, and decide their number; see `tckr.membership.planner`.

    A killed audit goes on with the number that it had decided: another would need other shadows.
    """
    import logging

    from tckr.membership.planner import Plan, plan

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


def draw_memberships(images: pd.DataFrame, audit_plan: dict[str, Any], seed: int) -> pd.DataFrame:
    """Decide which audited image is in which shadow's training set.

    Returns:
        One row a member or holdout image: image_id, is_member, and a boolean column a shadow.
    """
    from tckr.membership.design import membership_matrix

    audited = audited_images(images)
    n_shadows = audit_plan["n_shadows"]
    drawn = membership_matrix(len(audited), n_shadows, 0.5, derive(seed, "membership"))
    shadows = {f"shadow_{i}": row for i, row in enumerate(drawn)}
    return pd.DataFrame(
        {"image_id": audited["image_id"].to_numpy(), "is_member": is_member(audited), **shadows}
    )


def memberships(table: pd.DataFrame, audited: pd.DataFrame) -> "NDArray[np.bool_]":
    """Take the matrix bool (S, N) out of its table, for these images in their order.

    Raises:
        UserError: the table was made for other images.
    """
    if set(table["image_id"]) != set(audited["image_id"]):
        raise _of_another_set()
    rows = table.set_index("image_id").loc[audited["image_id"]]
    columns = [column for column in rows if column.startswith("shadow_")]
    # A copy: pandas hands out read-only views.
    return np.array(rows[columns].to_numpy(dtype=bool).T, order="C")


def train_shadows(
    repeated: "Experiment",
    membership_table: pd.DataFrame,
    audited: pd.DataFrame,
    options: AuditOptions,
) -> Tensors:
    """Train every shadow and score every audited image with it: float32 (S, N, Q) by model."""
    from tckr.membership.shadows import run_shadows

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
    from tckr.checkpoint import Checkpoints

    if options.checkpoints:
        Checkpoints(Path(options.checkpoints)).remove()


def as_tensors(arrays: "Mapping[str, NDArray[Any]]", audited: pd.DataFrame) -> Tensors:
    """Arrays as the catalog keeps them, with a mark of the images they are of."""
    import torch

    tensors = {
        name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()
    }
    return tensors | {EXAMPLES: torch.from_numpy(_mark(audited))}


def as_arrays(tensors: Tensors, audited: pd.DataFrame) -> "dict[str, NDArray[Any]]":
    """Arrays by name, once it is sure that they are of these images.

    Raises:
        UserError: they are of others.
    """
    if not np.array_equal(tensors[EXAMPLES].numpy(), _mark(audited)):
        raise _of_another_set()
    return {name: tensor.numpy() for name, tensor in tensors.items() if name != EXAMPLES}


def _mark(audited: pd.DataFrame) -> "NDArray[np.uint8]":
    import hashlib

    text = "\n".join(audited["split"] + " " + audited["image_id"])
    return np.frombuffer(hashlib.sha256(text.encode()).digest(), dtype=np.uint8).copy()


def _of_another_set() -> Exception:
    from tckr.errors import UserError

    return UserError(
        "The scores and memberships in the catalog belong to another private set.",
        "run the whole stage again: kedro run --namespaces=<stage>.",
    )


def score_models(
    images: pd.DataFrame,
    models: Mapping[str, Classifier],
    recipe: Mapping[str, Any],
    options: AuditOptions,
) -> Tensors:
    """Logit-scaled confidence of every model in every audited image, float32 (N, Q) by model."""
    from tckr.membership.signals import model_scores

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
    from tckr.text.retrieval import image_embeddings, load_clip

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
) -> dict[str, dict[str, Any]]:
    """Attack every model of `accuracies` (percent); see `tckr.membership.audit`. `teacher` alone is no student."""
    from tckr.membership.audit import audit

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


def rate_name(figures: Mapping[str, Any]) -> str:
    """Name of a true-positive rate as MLflow and tables show it; `figures` is an entry of `tprs`."""
    return f"TPR_at_{100 * figures['fpr']:g}pct_FPR"


def in_percent(
    figures: Mapping[str, Any], rates: Sequence[Mapping[str, Any]] | None = None
) -> dict[str, float | None]:
    """The figures of one attack on a model with their intervals, rates in percent; None where nothing is measurable.

    Args:
        figures: with `auc`, `tpr` and, of a model, `aop` and `accuracy`.
        rates: true-positive rates to list; the headline alone without them.
    """
    estimates = {"AUC_MIA": (figures["auc"], 100)}
    if "aop" in figures:
        estimates["AOP"] = (figures["aop"], 1)
    for rate in rates or [figures["tpr"]]:
        estimates[rate_name(rate)] = (rate, 100)
    percent: dict[str, float | None] = {}
    if "accuracy" in figures:
        percent["accuracy"] = figures["accuracy"]
    for name, (estimate, scale) in estimates.items():
        for suffix, part in (("", "value"), ("_low", "low"), ("_high", "high")):
            value = estimate[part]
            percent[f"{name}{suffix}"] = None if value is None else scale * value
    return percent
