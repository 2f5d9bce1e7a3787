"""The pipelines by name. A name is a job: it starts from raw files and ends with the stage, or the arm, of that name."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from kedro.framework.project import pipelines as project
from kedro.pipeline import Pipeline

from tckr.synthesizers.registry import DEFAULT, SYNTHESIZERS, synthesizer_class

STAGES = (
    "ingestion",
    "captioning",
    "generator_adaptation",
    "knowledge_recycling",
    "student_training",
    "privacy_audit",
)
# Students of many cardinalities, on the default arm's captions, adapter and teacher.
SWEEP = "cardinality_sweep"
# All arms, one after the other, in one table.
COMPARISON = "comparison"
# The recycled set of an earlier run for other tools; that of another arm is `<arm>.export`.
EXPORT = "export"
EXPORTS = (EXPORT, *(f"{arm}.{EXPORT}" for arm in SYNTHESIZERS if arm != DEFAULT))
# What may go out of an earlier run, with its certificate; that of another arm is `<arm>.release`. Of its own run it is the last
# stage of the whole loop, and of every arm.
RELEASE = "release"
RELEASES = (RELEASE, *(f"{arm}.{RELEASE}" for arm in SYNTHESIZERS if arm != DEFAULT))
# Whether a folder is what the release wrote.
VERIFY = "verify_release"
# How the shipped models were made: a job beside the others, whose imports the others do not wait for.
ASIDE = ("foundation",)
NAMES = (*STAGES, *SYNTHESIZERS, SWEEP, COMPARISON, *EXPORTS, *RELEASES, VERIFY, *ASIDE)


def stage(name: str, *arguments: Any) -> Pipeline:
    """Return one stage alone; its module is imported only now."""
    pipeline: Pipeline = import_module(f"tckr.pipelines.{name}").create_pipeline(*arguments)
    return pipeline


def register_pipelines() -> dict[str, Pipeline]:
    """Return every pipeline by its name.

    `student_training` stops before the audit, `privacy_audit` after it; `knowledge_recycling`, the papers' name for the
    whole loop, is the whole loop of the default arm with what may go of it, and so is the arm's own name.
    """
    from tckr.pipelines.arm import arm_release, arm_stages, shared_pipeline
    from tckr.pipelines.stage import in_namespace

    default = synthesizer_class(DEFAULT)
    ingestion, teacher = stage("ingestion"), shared_pipeline()
    stages = {"ingestion": ingestion, **arm_stages(DEFAULT)}
    stages["knowledge_recycling"] = teacher + stages["knowledge_recycling"]
    pipelines, so_far = {}, Pipeline([])
    for name in STAGES:
        so_far = pipelines[name] = so_far + stages[name]
    whole = pipelines["privacy_audit"] + arm_release(DEFAULT, of_this_run=True)
    pipelines["knowledge_recycling"] = pipelines["__default__"] = whole
    pipelines[EXPORT] = stage(EXPORT, default)
    pipelines[RELEASE] = arm_release(DEFAULT, of_this_run=False)
    pipelines[VERIFY] = stage(VERIFY)
    for arm in SYNTHESIZERS:
        released = arm_release(arm, of_this_run=True)
        pipelines[arm] = sum(arm_stages(arm).values(), ingestion + shared_pipeline(arm)) + released
        if arm != DEFAULT:
            exported = stage(EXPORT, synthesizer_class(arm))
            pipelines[f"{arm}.{EXPORT}"] = in_namespace(arm, exported, (), ())
            pipelines[f"{arm}.{RELEASE}"] = arm_release(arm, of_this_run=False)
    recycling = import_module("tckr.pipelines.knowledge_recycling")
    generators = teacher + recycling.create_generators_pipeline(default)
    pipelines[SWEEP] = pipelines["generator_adaptation"] + generators + stage(SWEEP, default)
    pipelines[COMPARISON] = _comparison(list(SYNTHESIZERS), pipelines)
    requested = project._requested_pipelines
    for name in ASIDE:
        present = Path(__file__).with_name("pipelines").joinpath(name, "pipeline.py").is_file()
        if present and (requested is None or name in requested):
            pipelines[name] = stage(name)
    return pipelines


def wired(parameters: Mapping[str, Any], registered: Mapping[str, Pipeline]) -> dict[str, Pipeline]:
    """Return the pipelines whose nodes follow from parameters: the comparison of the arms that are chosen.

    Args:
        parameters: all groups by name, checked.
        registered: pipelines by name.
    """
    from tckr.pipelines.comparison.options import ComparisonOptions

    options = ComparisonOptions.model_validate(parameters[COMPARISON])
    return {COMPARISON: _comparison(options.chosen, registered)}


def _comparison(arms: Sequence[str], registered: Mapping[str, Pipeline]) -> Pipeline:
    from tckr.pipelines.arm import arm_release, in_a_box

    # What is compared is not handed out yet.
    each = [in_a_box(arm, registered[arm] - arm_release(arm, of_this_run=True)) for arm in arms]
    return sum(each, stage(COMPARISON, arms))
