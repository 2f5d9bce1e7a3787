"""What adaptation, captions and soft labels each add to the student, on the captions, adapter and teacher of the last run.

    kedro run --pipeline=knowledge_recycling --params=seed=0
    python benchmarks/ablation.py --seed 0 [--env base] [--out ablation.json]

Six students of one teacher, for as many steps each: images of the unadapted generator, of the adapted one prompted with
class names, and of the adapted one prompted with the members' captions (the run's own, student included); hard labels,
and the teacher's soft labels on the fly. Accuracy in percent on the test split, by which nothing is chosen.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from tckr.classifiers.distillation import train_student
from tckr.classifiers.options import ClassifierOptions, DistillationOptions
from tckr.engine.device import best
from tckr.engine.seeds import derive
from tckr.images.tables import images_and_labels
from tckr.pipelines.knowledge_recycling.nodes import fitted_on_members
from tckr.pipelines.student_training.nodes import accuracies
from tckr.synthesizers.private_set import SyntheticSet
from tckr.synthesizers.tckr import TCKR

ROOT = Path(__file__).parents[1]
ARMS = {
    "unadapted generator, captions": {"generator": "base", "prompts": "captions"},
    "adapted generator, class names": {"generator": "adapted", "prompts": "class_names"},
    "adapted generator, captions": {},
}
OWN = "adapted generator, captions"
LABELS = ("hard", "on_the_fly")


def main() -> None:
    """Train the six students and print their accuracies beside the teacher's."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="of the run whose artefacts are used")
    parser.add_argument("--env", default=None)
    parser.add_argument("--project", type=Path, default=ROOT)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    bootstrap_project(arguments.project)
    with KedroSession.create(arguments.project, env=arguments.env) as session:
        context = session.load_context()
        figures = measure(context.catalog, context.config_loader["parameters"], arguments.seed)
    lines = [f"{'teacher':34}{figures['teacher']:8.2f}", f"{'':34}{'hard':>8}{'soft':>8}"]
    lines += [
        f"{arm:34}{figures[arm]['hard']:8.2f}{figures[arm]['on_the_fly']:8.2f}" for arm in ARMS
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=2) + "\n")


def measure(catalog: Any, parameters: dict[str, Any], seed: int) -> dict[str, Any]:
    """Accuracies in percent: of the teacher, and by arm and labels of the students."""
    images, teacher = catalog.load("images"), catalog.load("teacher")
    recipe = catalog.load("student_recipe")
    models = {"teacher": teacher, f"{OWN} on_the_fly": catalog.load("student")}
    for arm, choice in ARMS.items():
        drawn, targets = draw(catalog, parameters, choice, seed)
        for labels in LABELS:
            if f"{arm} {labels}" in models:
                continue
            models[f"{arm} {labels}"] = train_student(
                drawn,
                targets,
                ClassifierOptions.model_validate(recipe["classifier"]),
                derive(seed, "student"),
                len(recipe["classes"]),
                distillation=DistillationOptions(**{**recipe["distillation"], "labels": labels}),
                steps=recipe["steps"],
                teacher=teacher,
                device=best(),
            )
    found = {name: figure["accuracy"] for name, figure in accuracies(images, models).items()}
    return {
        "seed": seed,
        "teacher": found["teacher"],
        **{arm: {labels: found[f"{arm} {labels}"] for labels in LABELS} for arm in ARMS},
    }


def draw(
    catalog: Any, parameters: dict[str, Any], choice: dict[str, str], seed: int
) -> SyntheticSet:
    """Return the synthetic images of one arm with the classes of their prompts; the run's own for no choice."""
    if not choice:
        return SyntheticSet(*images_and_labels(catalog.load("recycled_set")))
    groups = {name: parameters[name] for name in TCKR.model_fields}
    groups["knowledge_recycling"] = {**groups["knowledge_recycling"], **choice}
    synthesizer = TCKR(**groups)
    artefacts = {name: catalog.load(name) for name in ("captions", "adapter")}
    fitted = fitted_on_members(
        synthesizer,
        artefacts,
        catalog.load("public_facts"),
        catalog.load("teacher"),
        catalog.load("mixture"),
    )
    count = synthesizer.knowledge_recycling.n_images(fitted.facts.n_members)
    return fitted.sample(count, seed)


if __name__ == "__main__":
    main()
