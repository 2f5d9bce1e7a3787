"""What a larger synthetic set buys, and what it gives away (TCKR, arXiv 2504.04582: accuracy, AUC_MIA, AOP)."""

import time
from collections.abc import Mapping
from typing import Any

import pandas as pd
from PIL import Image

from tckr.audit import shadow_runs, tables
from tckr.audit.options import AuditOptions
from tckr.audit.seen import Seen
from tckr.classifiers.options import ClassifierOptions, DistillationOptions
from tckr.engine.device import best
from tckr.engine.seeds import derive
from tckr.errors import UserError
from tckr.images.degenerate import check_distinct, log
from tckr.images.tables import images_and_labels, of_split
from tckr.pipelines.cardinality_sweep.options import SweepOptions
from tckr.pipelines.knowledge_recycling.nodes import fitted_on_members
from tckr.pipelines.student_training.nodes import accuracies
from tckr.pipelines.types import Classifier, Tensors
from tckr.synthesizers.base import Synthesizer
from tckr.synthesizers.recycling import images_at

TEACHER, CONTROL = "teacher", "control"


def draw_sets(
    synthesizer: Synthesizer,
    artefacts: Mapping[str, Any],
    public_facts: dict[str, Any],
    options: SweepOptions,
    seed: int,
    teacher: Classifier = None,
    mixture: Any = (),
) -> Tensors:
    """Draw the synthetic images of the largest cardinality; a smaller set is the beginning of a larger one.

    Returns:
        `released.images` uint8 (M, C, H, W) and `released.labels` int64 (M,), the classes of their prompts, balanced in
        every prefix to within one image per class; with the control `control.images` and `control.labels`, as many as
        there are members, with every channel closed: nothing private reaches them.

    Raises:
        UserError: all images are equal, or not finite.
    """
    fitted = fitted_on_members(synthesizer, artefacts, public_facts, teacher, mixture)
    members = fitted.facts.n_members
    sets = {
        tables.RELEASED: fitted.sample(
            images_at(options.cardinalities[-1], members), seed, nested=True
        )
    }
    released = sets[tables.RELEASED].images.numpy()
    log(check_distinct([hash(image.tobytes()) for image in released]))
    if options.control:
        sets[CONTROL] = fitted.sample(members, seed, nested=True, closed=synthesizer.open_channels)
    return {
        f"{name}.{part}": tensor
        for name, drawn in sets.items()
        for part, tensor in drawn._asdict().items()
    }


def train_students(
    images: pd.DataFrame,
    synthetic_sets: Tensors,
    teacher: Classifier,
    teacher_recipe: dict[str, Any],
    distillation: DistillationOptions,
    options: SweepOptions,
    audit: AuditOptions,
    seed: int,
) -> tuple[dict[str, Any], Tensors, dict[str, Any]]:
    """Train one student per cardinality, each by the teacher's recipe, for `patience` times its steps, with one seed.

    Returns:
        Of teacher and students by name: accuracy in percent on the test split and per class, cardinality, number of
        training images, seconds of training (None for the teacher); their scores on the audited images; and the recipe
        that the audit repeats for every shadow.
    """
    from tckr.classifiers.distillation import student_spec, student_trainer
    from tckr.classifiers.trainer import Trainer

    if distillation.regenerate is not None:
        raise UserError(
            "The sweep compares students on whole sets of several sizes, and student_training.regenerate shows them slices.",
            "set student_training.regenerate to null for the sweep.",
        )

    n_members = len(of_split(images, "members"))
    facts: dict[str, Any] = {TEACHER: {"cardinality": None, "images": n_members, "seconds": None}}
    sets = tables.synthetic_sets(synthetic_sets)
    students = _students(n_members, distillation, options)
    models = {TEACHER: teacher.to(best())}
    trainers: dict[tuple[str, str], Trainer] = {}
    for name, plan in students.items():
        start = time.perf_counter()
        key = (plan["pool"], plan["labels"])
        own = distillation.model_copy(update={"labels": plan["labels"]})
        if key not in trainers:
            trainers[key] = student_trainer(
                *sets[plan["pool"]],
                ClassifierOptions.model_validate(teacher_recipe["classifier"]),
                len(teacher_recipe["classes"]),
                distillation=own,
                device=best(),
            )
        spec = student_spec(
            sets[plan["pool"]].images,
            own,
            derive(seed, "student"),
            steps=teacher_recipe["steps"],
            teacher=teacher,
            size=plan["size"],
            augmentation=trainers[key].options.augmentation,
            told=trainers[key].options.soft_labels,
        )
        (models[name],) = trainers[key].fit([spec], "student")
        size = plan["size"] or len(sets[plan["pool"]].images)
        seconds = time.perf_counter() - start
        facts[name] = {"cardinality": size / n_members, "images": size, "seconds": seconds}
    measured = accuracies(images, models)
    recipe = {
        **teacher_recipe,
        "distillation": distillation.model_dump(mode="json"),
        "students": students,
    }
    return (
        {name: facts[name] | measured[name] for name in models},
        shadow_runs.score_models(images, models, teacher_recipe, audit),
        recipe,
    )


def _students(
    members: int, distillation: DistillationOptions, options: SweepOptions
) -> dict[str, dict[str, Any]]:
    """Return what each student learns from, by its name; see `StudentConfig`."""
    students: dict[str, dict[str, Any]] = {
        name: {"pool": tables.RELEASED, "labels": distillation.labels, "size": size}
        for name, (_, size) in options.students(members).items()
    }
    if options.control:
        students[CONTROL] = {"pool": CONTROL, "labels": "hard", "size": None}
    return students


def audit_models(
    images: pd.DataFrame,
    sweep_accuracy: dict[str, Any],
    target_scores: Tensors,
    shadow_scores: Tensors,
    membership_matrix: pd.DataFrame,
    audit_plan: dict[str, Any],
    student_recipe: dict[str, Any],
    audit: AuditOptions,
) -> dict[str, Any]:
    """Return what is known of each model by its name: training set, accuracy and, if audited, a `ModelAudit`."""
    if not shadow_scores:
        return sweep_accuracy
    seen = Seen(tables.audited_images(images), target_scores, shadow_scores).ordinary()
    figures = tables.attack_models(
        {name: model["accuracy"] for name, model in sweep_accuracy.items()},
        seen.audited,
        seen.targets,
        seen.shadows,
        membership_matrix,
        tables.image_features(audit, images_and_labels(seen.audited)[0])[0],
        audit,
        "distillation",
        student_recipe["students"],
    )
    shadow_runs.forget_checkpoints(audit, audit_plan)
    return {
        name: {**model, "audit": figures[name].model_dump(mode="json")}
        for name, model in sweep_accuracy.items()
    }


def tabulate(sweep_audit: dict[str, Any]) -> pd.DataFrame:
    """Return one row per model, the teacher first: model (teacher, student, control), cardinality, images, figures, seconds."""
    from tckr.audit.things import ModelAudit

    rows = [
        {
            "model": _kind(name),
            "cardinality": model["cardinality"],
            "images": model["images"],
            "accuracy": model["accuracy"],
            **(
                ModelAudit.model_validate(model["audit"]).with_accuracy()
                if "audit" in model
                else {}
            ),
            "seconds": model["seconds"],
        }
        for name, model in sweep_audit.items()
    ]
    return pd.DataFrame(rows)


def tabulate_attacks(sweep_audit: dict[str, Any]) -> pd.DataFrame:
    """Return one row per model and attack, the primary attack first: every figure with its interval, in percent."""
    from tckr.audit.things import ModelAudit

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
            **audit.in_percent(result.name, result.tprs),
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
