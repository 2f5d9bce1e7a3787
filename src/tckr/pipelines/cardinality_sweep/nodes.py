"""What a larger synthetic set buys, and what it gives away (TCKR, arXiv 2504.04582: accuracy, AUC_MIA, AOP)."""

import time
from typing import TYPE_CHECKING, Any

import pandas as pd
from PIL import Image

from tckr.audit.options import AuditOptions
from tckr.classifiers.options import ClassifierOptions, DistillationOptions
from tckr.diffusion.options import AdaptationOptions
from tckr.engine.device import best
from tckr.engine.seeds import derive
from tckr.images.tables import of_split
from tckr.pipelines import audited as shared
from tckr.pipelines import membership
from tckr.pipelines.cardinality_sweep.options import SweepOptions
from tckr.pipelines.knowledge_recycling.nodes import draw_images, plan_prompts
from tckr.pipelines.knowledge_recycling.options import RecyclingOptions, images_at
from tckr.pipelines.student_training.nodes import accuracies
from tckr.pipelines.types import Adapter, Classifier, Tensors

if TYPE_CHECKING:
    from tckr.audit.recycling import Pool
    from tckr.audit.shadow_models import Experiment, StudentPlan

TEACHER, CONTROL = "teacher", "control"


def draw_pool(
    images: pd.DataFrame,
    captions: pd.DataFrame,
    adapter: Adapter,
    adaptation: AdaptationOptions,
    recycling: RecyclingOptions,
    options: SweepOptions,
    seed: int,
) -> Tensors:
    """Draw the synthetic images of the largest cardinality; a smaller set is the beginning of a larger one.

    Returns:
        `images` uint8 (M, C, H, W) and `labels` int64 (M,), the classes of their prompts, balanced in every prefix to
        within one image a class; with the control `control_images` and `control_labels`, as many as there are members,
        of the unadapted generator and bare class names.
    """
    import torch

    members = of_split(images, "members")

    def pool(how: RecyclingOptions, count: int) -> tuple[Any, Any]:
        plan = plan_prompts(members, captions, how, count, seed, nested=True)
        drawn = draw_images(members, plan["prompt"].tolist(), adapter, adaptation, how, seed)
        return drawn, torch.from_numpy(plan["label"].to_numpy(copy=True))

    largest = images_at(options.cardinalities[-1], len(members))
    drawn = dict(zip(("images", "labels"), pool(recycling, largest), strict=True))
    if options.control:
        nothing = recycling.model_copy(update={"generator": "base", "prompts": "class_names"})
        names = ("control_images", "control_labels")
        drawn |= dict(zip(names, pool(nothing, len(members)), strict=True))
    return drawn


def train_students(
    images: pd.DataFrame,
    sweep_pool: Tensors,
    teacher: Classifier,
    teacher_recipe: dict[str, Any],
    distillation: DistillationOptions,
    options: SweepOptions,
    audit: AuditOptions,
    seed: int,
) -> tuple[dict[str, Any], Tensors]:
    """Train one student a cardinality, each by the teacher's recipe, for `patience` times its steps, with one seed.

    Returns:
        Of teacher and students by name: accuracy in percent on the test split and per class, cardinality, number of
        training images, seconds of training (None for the teacher); and their scores on the audited images.
    """
    from tckr.classifiers.distillation import Students

    n_members = len(of_split(images, "members"))
    facts: dict[str, Any] = {TEACHER: {"cardinality": None, "images": n_members, "seconds": None}}
    pools, plans = _pools(sweep_pool), _plans(n_members, distillation, options)
    models = {TEACHER: teacher.to(best())}
    schools: dict[tuple[str, str], Students] = {}
    for name, plan in plans.items():
        start = time.perf_counter()
        key = (plan.pool, plan.labels)
        if key not in schools:
            schools[key] = Students(
                *pools[plan.pool],
                ClassifierOptions.model_validate(teacher_recipe["classifier"]),
                len(teacher_recipe["classes"]),
                distillation=distillation.model_copy(update={"labels": plan.labels}),
                device=best(),
            )
        models[name] = schools[key].train(
            derive(seed, "student"), steps=teacher_recipe["steps"], teacher=teacher, size=plan.size
        )
        size = plan.size or len(pools[plan.pool].images)
        seconds = time.perf_counter() - start
        facts[name] = {"cardinality": size / n_members, "images": size, "seconds": seconds}
    measured = accuracies(images, models)
    return (
        {name: facts[name] | measured[name] for name in models},
        shared.score_models(images, models, teacher_recipe, audit),
    )


def plan_audit(
    images: pd.DataFrame,
    sweep_pool: Tensors,
    teacher_recipe: dict[str, Any],
    distillation: DistillationOptions,
    audit: AuditOptions,
    options: SweepOptions,
    seed: int,
) -> dict[str, Any]:
    """Say how long the shadows will take on this machine, and decide their number before any is trained."""
    if not options.audit:
        return {"n_shadows": audit.n_shadows}
    repeated = _experiment(images, sweep_pool, teacher_recipe, distillation, audit, options, seed)
    return shared.plan_shadows(repeated, audit)


def score_shadows(
    images: pd.DataFrame,
    sweep_pool: Tensors,
    sweep_memberships: pd.DataFrame,
    teacher_recipe: dict[str, Any],
    distillation: DistillationOptions,
    audit: AuditOptions,
    options: SweepOptions,
    seed: int,
) -> Tensors:
    """Train, for each shadow, a teacher and a student a cardinality, and score every audited image with them.

    Returns:
        Without `audit: false` logit-scaled confidences float32 (S, N, Q) of `teacher`, `0.1x` and so on.
    """
    audited = membership.audited_images(images)
    if not options.audit:
        return membership.as_tensors({}, audited)
    repeated = _experiment(images, sweep_pool, teacher_recipe, distillation, audit, options, seed)
    return shared.train_shadows(repeated, sweep_memberships, audited, audit)


def _experiment(
    images: pd.DataFrame,
    sweep_pool: Tensors,
    teacher_recipe: dict[str, Any],
    distillation: DistillationOptions,
    audit: AuditOptions,
    options: SweepOptions,
    seed: int,
) -> "Experiment":
    return shared.experiment(
        membership.audited_images(images),
        {**teacher_recipe, "distillation": distillation.model_dump(mode="json")},
        audit.model_copy(update={"scope": "distillation"}),
        seed,
        students=_plans(len(of_split(images, "members")), distillation, options),
        pools=_pools(sweep_pool),
    )


def _plans(
    members: int, distillation: DistillationOptions, options: SweepOptions
) -> "dict[str, StudentPlan]":
    from tckr.audit.shadow_models import StudentPlan

    plans = {
        name: StudentPlan("images", distillation.labels, size)
        for name, (_, size) in options.students(members).items()
    }
    return plans | ({CONTROL: StudentPlan(CONTROL, "hard")} if options.control else {})


def _pools(sweep_pool: Tensors) -> "dict[str, Pool]":
    from tckr.audit.recycling import Pool

    pools = {"images": Pool(sweep_pool["images"], sweep_pool["labels"])}
    if "control_images" in sweep_pool:
        pools[CONTROL] = Pool(sweep_pool["control_images"], sweep_pool["control_labels"])
    return pools


def audit_models(
    images: pd.DataFrame,
    sweep_accuracy: dict[str, Any],
    sweep_target_scores: Tensors,
    sweep_shadow_scores: Tensors,
    sweep_memberships: pd.DataFrame,
    audit: AuditOptions,
    options: SweepOptions,
) -> dict[str, Any]:
    """Return what is known of each model by its name: training set, accuracy and, if audited, a `ModelAudit` as `audit`."""
    if not options.audit:
        return sweep_accuracy
    audited = membership.audited_images(images)
    figures = shared.attack_models(
        {name: model["accuracy"] for name, model in sweep_accuracy.items()},
        audited,
        sweep_target_scores,
        sweep_shadow_scores,
        sweep_memberships,
        shared.image_features(audit, audited)[0],
        audit.model_copy(update={"scope": "distillation"}),
    )
    shared.forget_checkpoints(audit)
    return {
        name: {**model, "audit": figures[name].model_dump(mode="json")}
        for name, model in sweep_accuracy.items()
    }


def tabulate(sweep_audit: dict[str, Any]) -> pd.DataFrame:
    """Return one row per model, the teacher first: model (teacher, student, control), cardinality, images, figures, seconds."""
    from tckr.audit.results import ModelAudit

    rows = [
        {
            "model": _kind(name),
            "cardinality": model["cardinality"],
            "images": model["images"],
            "accuracy": model["accuracy"],
            **(ModelAudit.model_validate(model["audit"]).in_percent() if "audit" in model else {}),
            "seconds": model["seconds"],
        }
        for name, model in sweep_audit.items()
    ]
    return pd.DataFrame(rows)


def tabulate_attacks(sweep_audit: dict[str, Any]) -> pd.DataFrame:
    """Return one row per model and attack, the primary attack first: every figure with its interval, in percent."""
    from tckr.audit.results import ModelAudit

    audits = {
        name: ModelAudit.model_validate(model["audit"])
        for name, model in sweep_audit.items()
        if "audit" in model
    }
    rows = [
        {
            "model": name,
            "attack": result.name,
            "primary": result.name == audit.primary_attack,
            **result.in_percent(result.tprs),
        }
        for name, audit in audits.items()
        for result in audit.attacks.values()
    ]
    return pd.DataFrame(rows, columns=None if rows else ["model", "attack", "primary"])


def _kind(name: str) -> str:
    return name if name in (TEACHER, CONTROL) else "student"


def draw_curves(sweep: pd.DataFrame, audit: AuditOptions) -> Image.Image:
    """Accuracy, AUC_MIA and AOP of the students against cardinality, beside the teacher's; see `curves`."""
    from tckr.reporting.curves import curves
    from tckr.reporting.style import rendered

    return rendered(curves(sweep, audit.confidence))
