"""The audit on image tables: who was in which training set, what shadows repeat, and the attacks on every model."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tckr.audit.options import AuditOptions, AuditRuntime, Scope
from tckr.classifiers.options import ClassifierOptions, DistillationOptions
from tckr.engine import resolve_workers
from tckr.engine.device import best
from tckr.engine.places import place
from tckr.engine.seeds import derive
from tckr.images.canaries import is_duplicated, is_first
from tckr.images.tables import class_names, images_and_labels, of_split

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from tckr.audit.results import Plan
    from tckr.audit.resynthesis import OwnTeacher, Resynthesis
    from tckr.audit.shadow_models import ShadowConfig
    from tckr.audit.things import ModelAudit
    from tckr.synthesizers.private_set import SyntheticSet

logger = logging.getLogger(__name__)

SPLITS = ("members", "holdout")
REFERENCE = "validation"  # of the same distribution, neither trained on nor audited
RELEASED = "released"  # the synthetic set that is released
TEACHER = "teacher"
Tensors = dict[str, Any]


def audited_images(images: pd.DataFrame) -> pd.DataFrame:
    """Return members and holdout, in the table's own order."""
    return of_split(images, *SPLITS)


def is_member(audited: pd.DataFrame) -> "NDArray[np.bool_]":
    """Return True for members, (N,)."""
    return (audited["split"] == "members").to_numpy()


def people(audited: pd.DataFrame) -> "NDArray[np.int64] | None":
    """Return the person behind each audited image, int64 (N,); None where every image is of a person of its own.

    >>> people(pd.DataFrame({"group": [4, 9, 4]})), people(pd.DataFrame({"group": [4, 9]}))
    (array([4, 9, 4]), None)
    """
    if "group" not in audited or audited["group"].is_unique:
        return None
    return audited["group"].to_numpy(dtype=np.int64)


def draw_memberships(images: pd.DataFrame, n_shadows: int, seed: int) -> pd.DataFrame:
    """Decide which audited image is in which shadow's training set; all images of a person are in the same.

    Returns:
        One row per member or holdout image: image_id, is_member, and one boolean column per shadow.
    """
    from tckr.audit.membership import membership_matrix

    audited = audited_images(images)
    drawn = membership_matrix(
        len(audited), n_shadows, 0.5, derive(seed, "membership"), people(audited)
    )
    shadows = {f"shadow_{i}": row for i, row in enumerate(drawn)}
    return pd.DataFrame(
        {"image_id": audited["image_id"].to_numpy(), "is_member": is_member(audited), **shadows}
    )


def memberships(table: pd.DataFrame, audited: pd.DataFrame) -> "NDArray[np.bool_]":
    """Take the matrix bool (S, N) out of its table, for these images in their order.

    Raises:
        KeyError: the table was made for other images.
    """
    rows = table.set_index("image_id").loc[audited["image_id"]]
    columns = [column for column in rows if column.startswith("shadow_")]
    # A copy: pandas returns read-only views.
    return np.array(rows[columns].to_numpy(dtype=bool).T, order="C")


def as_tensors(arrays: "Mapping[str, NDArray[Any]]") -> Tensors:
    """Return arrays as the catalog keeps them."""
    import torch

    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def as_arrays(tensors: Mapping[str, Any]) -> "dict[str, NDArray[Any]]":
    """Return arrays as the attacks read them."""
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def synthetic_sets(stored: "pd.DataFrame | Tensors") -> "dict[str, SyntheticSet]":
    """Return the synthetic sets by name out of an image table, which is the released one, or out of named tensors."""
    from tckr.synthesizers.private_set import SyntheticSet

    if isinstance(stored, pd.DataFrame):
        return {RELEASED: SyntheticSet(*images_and_labels(stored))}
    names = dict.fromkeys(name.split(".")[0] for name in stored)
    return {n: SyntheticSet(stored[f"{n}.images"], stored[f"{n}.labels"]) for n in names}


def queried_images(images: pd.DataFrame, options: AuditOptions, seed: int) -> pd.DataFrame:
    """Return as many members as holdout images, drawn by seed, and the reference.

    Duplicated canaries come on top, one copy of each; all of their copies where all images are asked about.
    """
    parts = []
    for split in SPLITS:
        every = of_split(images, split)
        if options.asked is None:
            parts.append(every)
            continue
        canary = is_duplicated(every)
        own = np.flatnonzero(~canary)
        random = np.random.default_rng(derive(seed, "asked", split))
        chosen = own[random.permutation(len(own))[: options.asked]]
        planted = np.flatnonzero(canary & is_first(every))
        parts.append(every.iloc[np.sort(np.concatenate([chosen, planted]))])
    return pd.concat([*parts, of_split(images, REFERENCE)])


def queried_rows(
    audited: pd.DataFrame, images: pd.DataFrame, options: AuditOptions, seed: int
) -> "NDArray[np.int64]":
    """Return the rows, among the audited images, about which generator and prompts are queried: int64 (n,)."""
    chosen = queried_images(images, options, seed)["image_id"]
    return np.flatnonzero(audited["image_id"].isin(chosen))


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
    from tckr.audit.shadow_models import ShadowConfig, StudentConfig
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
    queries_generator = "generator" in synthesizer.threats
    return Resynthesis(
        synthesizer,
        class_names(images),
        aligned,
        count,
        closed,
        options.generator if queries_generator else None,
        queried_rows(audited, images, options, seed).tolist() if queries_generator else [],
        draws,
    )


def plan_shadows(repeated: "ShadowConfig", options: AuditOptions) -> dict[str, Any]:
    """Probe the machine, say how long the shadows will take, and decide their number; see `tckr.audit.budget`.

    A resumed audit keeps the number of shadows chosen at the start, because changing it would invalidate the finished
    ones.

    Returns:
        The plan, and the fingerprint of the shadows' work, by which its checkpoints are found.
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
    return {**decided.model_dump(mode="json"), "fingerprint": mark}


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
    """Remove the finished shadow groups of this audit, once their scores are in the catalog."""
    from tckr.engine.checkpoint import Checkpoints

    if options.checkpoints is None or plan.get("fingerprint") is None:
        return
    folder = place(options.checkpoints) / plan["fingerprint"]
    for file in folder.glob("plan_*.json"):
        file.unlink(missing_ok=True)
    Checkpoints(folder).remove()


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


def image_features(options: AuditOptions, *images: "Tensor") -> "list[NDArray[np.float32]]":
    """Features (N, D) of images, uint8 (N, C, H, W) each, by the encoder that the audit names."""
    from tckr.text.clip import image_embeddings, load_clip

    clip = load_clip(options.release.encoder, best())
    return [image_embeddings(clip, some).numpy() for some in images]


def pixel_proximity(
    audited: "tuple[Tensor, Tensor]",
    released: "tuple[Tensor, Tensor]",
    reference: "tuple[Tensor, Tensor]",
    neighbours: int,
) -> "dict[str, NDArray[Any]]":
    """How near the released images come in pixels, within the class: what an encoder cannot tell apart may lie there.

    Each is a pair of images, uint8 (N, C, H, W), and labels (N,).
    """
    from tckr.attacks.nearest_neighbour import PixelRows, proximity_within

    def rows(images: "Tensor") -> PixelRows:
        return PixelRows(images.numpy())

    classes = (audited[1].numpy(), released[1].numpy(), reference[1].numpy())
    found = proximity_within(
        rows(audited[0]),
        rows(released[0]),
        rows(reference[0]),
        classes,
        neighbours,
    )
    return {f"{name}_pixels": values for name, values in found.items()}


def with_classes(features: "NDArray[np.float32]", audited: pd.DataFrame) -> "NDArray[np.float32]":
    """Return the features (N, D) of images with their classes beside them, one column for each."""
    classes = np.eye(int(audited["label"].max()) + 1, dtype=np.float32)[audited["label"]]
    return np.hstack([features, classes])


def attack_models(
    accuracies: Mapping[str, float | None],
    audited: pd.DataFrame,
    target_scores: Mapping[str, Any],
    shadow_scores: Mapping[str, Any],
    membership_table: pd.DataFrame,
    features: "NDArray[np.float32]",
    options: AuditOptions,
    scope: Scope,
    students: Mapping[str, Mapping[str, Any]],
    note: str = "",
) -> "dict[str, ModelAudit]":
    """Attack every model of `accuracies` (percent; None: nobody uses it as a classifier); see `tckr.audit.audit`.

    `students` says what each was trained on (`StudentConfig`); a model that is not there is a teacher. `note` is what else has to
    be said of the students' shadows.
    """
    from tckr.audit.audit import audit

    inside = memberships(membership_table, audited)
    targets, shadows = as_arrays(target_scores), as_arrays(shadow_scores)
    features = with_classes(features, audited)
    # The canaries' classes are wrong on purpose: what an attacker would give for theirs.
    canary = audited["canary"].to_numpy(dtype=bool) if "canary" in audited else None
    return {
        model: audit(
            targets[model],
            shadows[model],
            inside,
            is_member(audited),
            accuracy_percent=accuracy,
            options=options,
            scope=scope if model in students else "classifier",
            labels=students[model]["labels"] if model in students else None,
            note=note if model in students else "",
            features=features,
            canary=canary,
            clusters=people(audited),
            classes=None if "class_name" not in audited else audited["class_name"].to_numpy(object),
        )
        for model, accuracy in accuracies.items()
    }
