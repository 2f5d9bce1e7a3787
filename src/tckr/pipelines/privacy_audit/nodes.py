"""What the student, and everything else that would be released, give away about who was in the private set."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tckr.audit.options import AuditOptions
from tckr.diffusion.options import AdaptationOptions
from tckr.engine.device import best
from tckr.engine.seeds import derive
from tckr.images.tables import class_names, images_and_labels, of_split
from tckr.pipelines import audited as shared
from tckr.pipelines import membership
from tckr.pipelines.knowledge_recycling.options import RecyclingOptions
from tckr.pipelines.types import Adapter, Classifier, Tensors
from tckr.text.options import CaptionOptions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tckr.audit.shadow_models import Experiment

REFERENCE = "validation"  # of the same distribution, neither trained on nor audited


def caption_asked(
    images: pd.DataFrame,
    captions: pd.DataFrame,
    captioning: CaptionOptions,
    options: AuditOptions,
    seed: int,
) -> pd.DataFrame:
    """Caption the images that the audit asks about as the members were: some or all of the audited, and a reference.

    Returns:
        One row an image: image_id, split, prompt. In scope `pipeline` all audited images are there.
    """
    from tckr.images.tensors import to_tensor
    from tckr.text.captioner import caption, captions_table, load

    asked = _asked(images, options, seed)
    others = asked[~asked["image_id"].isin(captions["image_id"])]
    written = caption(
        load(captioning.captioner, best(), captioning.dtype), to_tensor(others["image"]), captioning
    )
    table = captions_table(others["image_id"].tolist(), others["class_name"].tolist(), written)
    prompts = pd.concat([captions, table]).set_index("image_id")["prompt"]
    return pd.DataFrame(
        {
            "image_id": asked["image_id"].to_numpy(),
            "split": asked["split"].to_numpy(),
            "prompt": prompts.loc[asked["image_id"]].to_numpy(),
        }
    )


def _asked(images: pd.DataFrame, options: AuditOptions, seed: int) -> pd.DataFrame:
    """As many members as holdout images, drawn by seed, and the reference."""
    everything = options.scope == "pipeline" or options.asked is None
    parts = []
    for split in membership.SPLITS:
        own = of_split(images, split)
        count = len(own) if everything else min(options.asked or 0, len(own))
        chosen = np.random.default_rng(derive(seed, "asked", split)).permutation(len(own))[:count]
        parts.append(own.iloc[np.sort(chosen)])
    return pd.concat([*parts, of_split(images, REFERENCE)])


def plan_audit(
    images: pd.DataFrame,
    recycled_set: pd.DataFrame,
    asked_prompts: pd.DataFrame,
    student_recipe: dict[str, Any],
    adaptation: AdaptationOptions,
    recycling: RecyclingOptions,
    options: AuditOptions,
    seed: int,
) -> dict[str, Any]:
    """Say how long the shadows will take on this machine, and decide their number before any is trained."""
    repeated = _experiment(
        images, recycled_set, asked_prompts, student_recipe, adaptation, recycling, options, seed
    )
    return shared.plan_shadows(repeated, options)


def score_shadows(
    images: pd.DataFrame,
    recycled_set: pd.DataFrame,
    asked_prompts: pd.DataFrame,
    membership_matrix: pd.DataFrame,
    student_recipe: dict[str, Any],
    adaptation: AdaptationOptions,
    recycling: RecyclingOptions,
    options: AuditOptions,
    seed: int,
) -> Tensors:
    """Train every shadow by the targets' own recipe and score every audited image with it.

    Returns:
        Logit-scaled confidences float32 (S, N, Q): `teacher`, `student`, with attribution the counterfactual students;
        in scope `pipeline` signals (S, n, 1) of the shadow generators in the n images asked about.
    """
    repeated = _experiment(
        images, recycled_set, asked_prompts, student_recipe, adaptation, recycling, options, seed
    )
    return shared.train_shadows(
        repeated, membership_matrix, membership.audited_images(images), options
    )


def _experiment(
    images: pd.DataFrame,
    recycled_set: pd.DataFrame,
    asked_prompts: pd.DataFrame,
    recipe: dict[str, Any],
    adaptation: AdaptationOptions,
    options: RecyclingOptions,
    audit: AuditOptions,
    seed: int,
) -> "Experiment":
    from tckr.audit import attribution
    from tckr.audit.recycling import Cell, Pool, Recycling
    from tckr.audit.shadow_models import StudentPlan

    audited = membership.audited_images(images)
    labels = recipe["distillation"]["labels"]
    if audit.scope == "distillation":
        released = {"released": Pool(*images_and_labels(recycled_set))}
        students = {"student": StudentPlan("released", labels)}
        return shared.experiment(audited, recipe, audit, seed, students=students, pools=released)
    own = Cell(options.generator, options.prompts)
    students, cells = {"student": StudentPlan(" ".join(own), labels)}, {" ".join(own): own}
    if audit.attribution:
        students |= attribution.plans(labels)
        cells |= attribution.cells()
    prompts = asked_prompts.set_index("image_id")["prompt"].loc[audited["image_id"]]
    repeat = Recycling(
        prompts.tolist(),
        class_names(images),
        adaptation,
        options.sampling,
        len(recycled_set),
        cells,
        audit.generator,
        _rows_asked(audited, asked_prompts, audit, seed).tolist(),
    )
    return shared.experiment(
        audited, recipe, audit, seed, students=students, pools={}, recycling=repeat
    )


def _rows_asked(
    audited: pd.DataFrame, asked_prompts: pd.DataFrame, options: AuditOptions, seed: int
) -> "NDArray[Any]":
    """Places, among the audited images, of those that generator and prompts are asked about: int64 (n,)."""
    narrow = options.model_copy(update={"scope": "distillation"})
    chosen = _asked(audited, narrow, seed)["image_id"]
    known = audited["image_id"].isin(chosen) & audited["image_id"].isin(asked_prompts["image_id"])
    return np.flatnonzero(known)


def score_targets(
    images: pd.DataFrame,
    teacher: Classifier,
    student: Classifier,
    student_recipe: dict[str, Any],
    options: AuditOptions,
) -> Tensors:
    """Logit-scaled confidence of both models in every audited image, float32 (N, Q)."""
    models = {"teacher": teacher, "student": student}
    return shared.score_models(images, models, student_recipe, options)


def score_generator(
    images: pd.DataFrame,
    asked_prompts: pd.DataFrame,
    adapter: Adapter,
    adaptation: AdaptationOptions,
    options: AuditOptions,
    seed: int,
) -> Tensors:
    """Ask the base and the adapted generator about images: signals float64 (n,), and `rows` (n,), which images."""
    from tckr.audit.denoising import ask

    audited = membership.audited_images(images)
    rows = _rows_asked(audited, asked_prompts, options, seed)
    chosen = audited.iloc[rows]
    pixels, _ = images_and_labels(chosen)
    prompts = asked_prompts.set_index("image_id")["prompt"].loc[chosen["image_id"]].tolist()
    asked: dict[str, Any] = {"rows": rows}
    for name, given in (("base", None), ("adapted", adapter)):
        found = ask(
            adaptation,
            given,
            pixels,
            prompts,
            device=best(),
            **options.generator.queries(),
        )
        asked |= {f"{name}.{signal}": values for signal, values in found.items()}
    return membership.as_tensors(asked, audited)


def score_release(
    images: pd.DataFrame,
    synthetic_images: pd.DataFrame,
    asked_prompts: pd.DataFrame,
    options: AuditOptions,
    seed: int,
) -> Tensors:
    """How near the synthetic images and their prompts come to each audited image; see `tckr.attacks.nearest_neighbour`.

    Returns:
        `features` float32 (N, D) of the audited images; `images.<score>` (N,); `prompts.<score>` (n,) of those at `rows`.
    """
    from tckr.attacks.nearest_neighbour import prompt_disclosure, proximity

    audited = membership.audited_images(images)
    features, released, reference = shared.image_features(
        options, audited, synthetic_images, of_split(images, REFERENCE)
    )
    of_images = proximity(features, released, reference, options.release.neighbours)
    rows = _rows_asked(audited, asked_prompts, options, seed)
    prompts = asked_prompts.set_index("image_id")["prompt"]
    of_prompts = prompt_disclosure(
        prompts.loc[audited["image_id"].iloc[rows]].tolist(),
        synthetic_images["prompt"].tolist(),
        asked_prompts.loc[asked_prompts["split"] == REFERENCE, "prompt"].tolist(),
    )
    return membership.as_tensors(
        {"features": features, "rows": rows}
        | {f"images.{name}": values for name, values in of_images.items()}
        | {f"prompts.{name}": values for name, values in of_prompts.items()},
        audited,
    )
