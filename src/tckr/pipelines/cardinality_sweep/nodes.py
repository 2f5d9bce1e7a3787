"""What a larger synthetic set buys, and what it gives away (TCKR, arXiv 2504.04582: accuracy, AUC_MIA, AOP)."""

import time
from typing import Any

import pandas as pd
from PIL import Image

from tckr.classifiers.options import ClassifierOptions, DistillationOptions
from tckr.diffusion.options import AdaptationOptions
from tckr.membership.audit import AuditOptions
from tckr.pipelines import audited
from tckr.pipelines.cardinality_sweep.options import SweepOptions
from tckr.pipelines.device import best
from tckr.pipelines.knowledge_recycling.nodes import draw_images, plan_prompts
from tckr.pipelines.knowledge_recycling.options import RecyclingOptions, images_at
from tckr.pipelines.student_training.nodes import accuracies
from tckr.pipelines.tensors import of_split
from tckr.pipelines.types import Adapter, Classifier, Tensors
from tckr.seeds import derive

TEACHER = "teacher"


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
        within one image a class.
    """
    import torch

    members = of_split(images, "members")
    count = images_at(options.cardinalities[-1], len(members))
    plan = plan_prompts(members, captions, recycling, count, seed, nested=True)
    drawn = draw_images(members, plan["prompt"].tolist(), adapter, adaptation, recycling, seed)
    return {"images": drawn, "labels": torch.from_numpy(plan["label"].to_numpy(copy=True))}


def train_students(
    images: pd.DataFrame,
    sweep_pool: Tensors,
    teacher: Classifier,
    teacher_recipe: dict[str, Any],
    distillation: DistillationOptions,
    options: SweepOptions,
    seed: int,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Train one student a cardinality, each by the teacher's recipe, for `patience` times its steps, with one seed.

    Returns:
        Of teacher and students by name: accuracy in percent on the test split and per class, cardinality, number of
        training images, seconds of training (None for the teacher); and their scores on the audited images.
    """
    from tckr.classifiers.recipe import Students

    n_members = len(of_split(images, "members"))
    facts: dict[str, Any] = {
        TEACHER: {"cardinality": None, "images": n_members, "seconds": None},
    }
    students = Students(
        sweep_pool["images"],
        sweep_pool["labels"],
        ClassifierOptions.model_validate(teacher_recipe["classifier"]),
        len(teacher_recipe["classes"]),
        distillation=distillation,
        device=best(),
    )
    soft = students.stored(teacher.to(best()))
    models = {TEACHER: teacher}
    for name, (cardinality, size) in options.students(n_members).items():
        start = time.perf_counter()
        models[name] = students.train(
            derive(seed, "student"),
            steps=teacher_recipe["steps"],
            teacher=teacher,
            soft=soft,
            size=size,
        )
        seconds = time.perf_counter() - start
        facts[name] = {"cardinality": cardinality, "images": size, "seconds": seconds}
    measured = accuracies(images, models)
    return (
        {name: facts[name] | measured[name] for name in models},
        audited.score_models(images, models),
    )


def score_shadows(
    images: pd.DataFrame,
    sweep_pool: Tensors,
    sweep_memberships: pd.DataFrame,
    teacher_recipe: dict[str, Any],
    distillation: DistillationOptions,
    audit: AuditOptions,
    options: SweepOptions,
    seed: int,
) -> pd.DataFrame:
    """Train, for each shadow, a teacher and a student a cardinality, and score every audited image with them.

    Returns:
        One row an audited image: image_id, is_member, and without `audit: false` a logit-scaled confidence a shadow,
        `teacher_0`... and `0.1x_0`...
    """
    rows = of_split(images, *audited.SPLITS)
    if not options.audit:
        return audited.by_image(rows, {})
    students = options.students(len(of_split(images, "members")))
    scores = audited.train_shadows(
        rows,
        (sweep_pool["images"], sweep_pool["labels"]),
        [size for _, size in students.values()],
        sweep_memberships,
        {**teacher_recipe, "distillation": distillation.model_dump(mode="json")},
        audit,
        seed,
    )
    of_students = dict(zip(students, scores.students, strict=True))
    return audited.by_image(rows, {TEACHER: scores.teacher, **of_students})


def audit_models(
    sweep_accuracy: dict[str, Any],
    sweep_target_scores: pd.DataFrame,
    sweep_shadow_scores: pd.DataFrame,
    sweep_memberships: pd.DataFrame,
    audit: AuditOptions,
    options: SweepOptions,
) -> dict[str, Any]:
    """Everything known of each model by its name: what it was trained on, its accuracy and, if audited, the attack."""
    if not options.audit:
        return sweep_accuracy
    figures = audited.attack_models(
        {name: model["accuracy"] for name, model in sweep_accuracy.items()},
        sweep_target_scores,
        sweep_shadow_scores,
        sweep_memberships,
        audit,
    )
    return {name: model | figures[name] for name, model in sweep_accuracy.items()}


def tabulate(sweep_audit: dict[str, Any]) -> pd.DataFrame:
    """One row a model, the teacher first: model (teacher, student), cardinality, images, figures in percent, seconds."""
    rows = [
        {
            "model": TEACHER if name == TEACHER else "student",
            "cardinality": model["cardinality"],
            "images": model["images"],
            **(audited.in_percent(model) if "auc" in model else {"accuracy": model["accuracy"]}),
            "seconds": model["seconds"],
        }
        for name, model in sweep_audit.items()
    ]
    return pd.DataFrame(rows)


def draw_curves(sweep: pd.DataFrame, audit: AuditOptions) -> Image.Image:
    """Accuracy, AUC_MIA and AOP of the students against cardinality, beside the teacher's; see `curves`."""
    from tckr.pipelines.cardinality_sweep.curves import curves
    from tckr.pipelines.pictures import rendered

    return rendered(curves(sweep, audit.confidence))
