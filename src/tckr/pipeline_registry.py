"""The pipelines by name. A name is a job: it starts from raw files and ends with the stage of that name."""

from importlib import import_module
from pathlib import Path

from kedro.framework.project import pipelines as project
from kedro.pipeline import Pipeline

STAGES = (
    "ingestion",
    "captioning",
    "generator_adaptation",
    "knowledge_recycling",
    "student_training",
    "privacy_audit",
)
# A stage of its own job: students of many cardinalities, on the loop's captions, adapter and teacher.
SWEEP = "cardinality_sweep"
# How the shipped models were made: a job beside the others, whose imports the others do not wait for.
ASIDE = ("foundation",)
NAMES = (*STAGES, SWEEP, *ASIDE)


def stage(name: str) -> Pipeline:
    """Return one stage alone; its module is imported only now."""
    pipeline: Pipeline = import_module(f"tckr.pipelines.{name}").create_pipeline()
    return pipeline


def register_pipelines() -> dict[str, Pipeline]:
    """Return every pipeline by its name.

    `student_training` stops before the audit; `knowledge_recycling`, the papers' name for the whole loop, is the whole
    loop, and so is `privacy_audit`, its last stage. `cardinality_sweep` draws its own synthetic images: of the stage
    before it, it needs the teacher alone.
    """
    stages = [stage(name) for name in STAGES]
    pipelines = {name: sum(stages[: n + 1], Pipeline([])) for n, name in enumerate(STAGES)}
    pipelines["knowledge_recycling"] = pipelines["privacy_audit"]
    pipelines["__default__"] = pipelines["knowledge_recycling"]
    teacher = stage("knowledge_recycling").only_nodes("knowledge_recycling.train_teacher")
    pipelines[SWEEP] = pipelines["generator_adaptation"] + teacher + stage(SWEEP)
    requested = project._requested_pipelines
    for name in ASIDE:
        present = Path(__file__).with_name("pipelines").joinpath(name, "pipeline.py").is_file()
        if present and (requested is None or name in requested):
            pipelines[name] = stage(name)
    return pipelines
