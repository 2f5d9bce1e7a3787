"""What the student, and everything else that would be released, give away about who was in the private set."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tckr.audit import shadow_runs, tables
from tckr.audit.options import AuditOptions
from tckr.engine.device import best
from tckr.engine.seeds import derive
from tckr.images.tables import class_names, images_and_labels, of_split, owners
from tckr.pipelines.arm import aligned
from tckr.pipelines.types import Classifier, Tensors
from tckr.synthesizers.base import Synthesizer
from tckr.synthesizers.filtering import draws_per_image
from tckr.synthesizers.private_set import PrivateSet
from tckr.synthesizers.text_to_image import TextToImage

if TYPE_CHECKING:
    from tckr.audit.shadow_config import ShadowConfig

QUERIED = "queried_"  # before the name of a per-image artefact: that of the queried images


def describe_queried(
    synthesizer: Synthesizer,
    artefacts: Mapping[str, Any],
    images: pd.DataFrame,
    options: AuditOptions,
    seed: int,
) -> Any:
    """Make the per-image artefacts (captions, say) of the queried images exactly as those of the members were made.

    Returns:
        One table per per-image step, one row per image: `image_id`, `split` and the step's columns. In scope `pipeline`
        all audited images are there, since every shadow has other members.
    """
    wanted = options.model_copy(update={"asked": None}) if options.scope == "pipeline" else options
    queried = tables.queried_images(images, wanted, seed)
    result = []
    for step in (step for step in synthesizer.steps if step.per_image):
        (name,) = step.makes
        known = artefacts[name]
        others = queried[~queried["image_id"].isin(known["image_id"])]
        pixels, labels = images_and_labels(others)
        private = PrivateSet(pixels, labels, class_names(images), owners(others))
        (made,) = getattr(synthesizer, step.name)(private, {}, seed, best())
        made = made.assign(image_id=others["image_id"].to_numpy())
        table = pd.concat([known, made]).set_index("image_id").loc[queried["image_id"]]
        table = table.reset_index()
        table.insert(1, "split", queried["split"].to_numpy())
        result.append(table)
    return result[0] if len(result) == 1 else tuple(result)


def plan_audit(
    images: pd.DataFrame,
    synthetic_sets: Any,
    student_recipe: dict[str, Any],
    options: AuditOptions,
    seed: int,
    wanted: bool = True,
) -> dict[str, Any]:
    """Say how long the shadows will take on this machine, and decide their number before any is trained.

    The synthetic sets are fixed: a shadow repeats teacher and students (scope `distillation`).
    """
    if not wanted:
        return {"n_shadows": options.n_shadows}
    repeated = shadow_runs.shadow_config(images, synthetic_sets, student_recipe, options, seed)
    return shadow_runs.plan_shadows(repeated, options)


def score_shadows(
    images: pd.DataFrame,
    synthetic_sets: Any,
    membership_matrix: pd.DataFrame,
    student_recipe: dict[str, Any],
    options: AuditOptions,
    seed: int,
    wanted: bool = True,
) -> Tensors:
    """Train every shadow by the targets' own recipe on fixed synthetic sets and score every audited image with it.

    Returns:
        Logit-scaled confidences float32 (S, N, Q) by model: `teacher` and every student; nothing if none is wanted.
    """
    if not wanted:
        return {}
    repeated = shadow_runs.shadow_config(images, synthetic_sets, student_recipe, options, seed)
    return shadow_runs.train_shadows(
        repeated, membership_matrix, tables.audited_images(images), options
    )


def plan_arm_audit(
    synthesizer: Synthesizer,
    artefacts: Mapping[str, Any],
    images: pd.DataFrame,
    recycled_set: pd.DataFrame,
    student_recipe: dict[str, Any],
    options: AuditOptions,
    seed: int,
) -> dict[str, Any]:
    """Say how long the shadows will take on this machine, and decide their number before any is trained."""
    repeated = _shadow_config(
        synthesizer, artefacts, images, recycled_set, student_recipe, options, seed
    )
    return shadow_runs.plan_shadows(repeated, options)


def score_arm_shadows(
    synthesizer: Synthesizer,
    artefacts: Mapping[str, Any],
    images: pd.DataFrame,
    recycled_set: pd.DataFrame,
    membership_matrix: pd.DataFrame,
    student_recipe: dict[str, Any],
    options: AuditOptions,
    seed: int,
) -> Tensors:
    """Train every shadow by the targets' own recipe and score every audited image with it.

    Returns:
        Logit-scaled confidences float32 (S, N, Q): `teacher`, `student`, with attribution the counterfactual students;
        in scope `pipeline` signals (S, n, 1) of the shadow generators in the n queried images.
    """
    repeated = _shadow_config(
        synthesizer, artefacts, images, recycled_set, student_recipe, options, seed
    )
    return shadow_runs.train_shadows(
        repeated, membership_matrix, tables.audited_images(images), options
    )


def _shadow_config(
    synthesizer: Synthesizer,
    artefacts: Mapping[str, Any],
    images: pd.DataFrame,
    recycled_set: pd.DataFrame,
    student_recipe: dict[str, Any],
    options: AuditOptions,
    seed: int,
) -> "ShadowConfig":
    """Return what a shadow of this arm repeats: in scope `pipeline` the synthesizer too."""
    from tckr.audit.resynthesis import OwnTeacher

    resynthesis = None
    if options.scope == "pipeline":
        count, draws = len(recycled_set), draws_per_image(recycled_set)
        resynthesis = shadow_runs.resynthesize(
            images, synthesizer, artefacts, count, options, seed, draws
        )
    own = None
    if synthesizer.own_teacher:
        whose = owners(tables.audited_images(images))
        own = OwnTeacher(synthesizer, class_names(images), whose)
    return shadow_runs.shadow_config(
        images, recycled_set, student_recipe, options, seed, resynthesis, own
    )


def draw_memberships(images: pd.DataFrame, audit_plan: dict[str, Any], seed: int) -> pd.DataFrame:
    """Decide which audited image is in which shadow's training set; see `tckr.audit.tables`."""
    return tables.draw_memberships(images, audit_plan["n_shadows"], seed)


def score_targets(
    images: pd.DataFrame,
    teacher: Classifier,
    student: Classifier,
    student_recipe: dict[str, Any],
    recycled_set: pd.DataFrame,
    options: AuditOptions,
    seed: int,
) -> Tensors:
    """Compute the logit-scaled confidence of the models in every audited image, float32 (N, Q).

    They are teacher, student, the student with more queries (`weights`), and what an attacker trains on the set as it is
    handed out (`released`).
    """
    from tckr.audit.attacker import RELEASED, train_attacker

    own = train_attacker(
        recycled_set, student_recipe, options.attacker, derive(seed, "attacker"), best()
    )
    models = {"teacher": teacher, "student": student, RELEASED: own}
    return shadow_runs.score_models(images, models, student_recipe, options)


def score_generator(
    synthesizer: TextToImage,
    artefacts: Mapping[str, Any],
    images: pd.DataFrame,
    options: AuditOptions,
    seed: int,
) -> Tensors:
    """Query the adapted generator about images, and what it was before it was fitted to private ones.

    Each image is asked about with the prompt with which the arm would have learnt it.

    Returns:
        Signals float64 (n,), `base.loss` (before) and `adapted.loss` and so on, and `rows` int64 (n,), which of the audited
        images they are of; nothing if with these options the arm adapts no generator.
    """
    from tckr.audit.denoising import query_generator

    if "generator" not in synthesizer.open_threats:
        return {}
    audited = tables.audited_images(images)
    rows = tables.queried_rows(audited, images, options, seed)
    chosen = audited.iloc[rows]
    queried = PrivateSet(*images_and_labels(chosen), class_names(images))
    prompts = synthesizer.prompts_of(queried, aligned(artefacts, synthesizer, chosen))
    updates = synthesizer.updates(artefacts)
    signals: dict[str, Any] = {"rows": rows}
    for name, merged in (("base", updates[:-1]), ("adapted", updates)):
        found = query_generator(
            synthesizer.source(),
            merged,
            queried.images,
            prompts,
            device=best(),
            **options.generator.queries(),
        )
        signals |= {f"{name}.{signal}": values for signal, values in found.items()}
    return tables.as_tensors(signals)


def score_release(
    synthesizer: Synthesizer,
    artefacts: Mapping[str, Any],
    images: pd.DataFrame,
    synthetic_images: pd.DataFrame,
    options: AuditOptions,
    seed: int,
) -> Tensors:
    """Measure how near the synthetic images and their prompts come to each audited image.

    See `tckr.attacks.nearest_neighbour`. Prompts are compared where they were made of private images.

    Returns:
        `features` float32 (N, D) of the audited images; `images.<score>` (N,); `prompts.<score>` (n,) of those at `rows`.
    """
    from tckr.attacks.nearest_neighbour import prompt_disclosure, proximity

    audited = tables.audited_images(images)
    reference = of_split(images, tables.REFERENCE)
    own, released, known = map(images_and_labels, (audited, synthetic_images, reference))
    features, *others = tables.image_features(options, own[0], released[0], known[0])
    k = options.release.neighbours
    near = proximity(features, others[0], others[1], k)
    near |= tables.pixel_proximity(own, released, known, k)
    rows = tables.queried_rows(audited, images, options, seed)
    scores: dict[str, Any] = {"features": features, "rows": rows}
    scores |= {f"images.{name}": values for name, values in near.items()}
    if "prompts" in synthesizer.open_threats:
        captions = artefacts["captions"]
        prompts = captions.set_index("image_id")["prompt"]
        near = prompt_disclosure(
            prompts.loc[audited["image_id"].iloc[rows]].tolist(),
            synthetic_images["prompt"].tolist(),
            captions.loc[captions["split"] == tables.REFERENCE, "prompt"].tolist(),
        )
        scores |= {f"prompts.{name}": values for name, values in near.items()}
    return tables.as_tensors({n: np.asarray(values) for n, values in scores.items()})
