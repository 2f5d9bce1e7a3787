"""An arm as pipelines: its steps, then the stages that all arms share, under the arm's name."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, get_type_hints

import pandas as pd
from kedro.pipeline import Node, Pipeline

from tckr.engine.device import best
from tckr.images.tables import class_names, images_and_labels, of_split, owners
from tckr.pipelines.stage import as_stage, in_namespace
from tckr.synthesizers.base import Step, Synthesizer
from tckr.synthesizers.choice import Choice
from tckr.synthesizers.private_set import PrivateSet, PublicFacts
from tckr.synthesizers.registry import DEFAULT, synthesizer_class

SEED = "params:seed"
# What all arms share is made once: the private set, its report and sheet, the teacher.
SHARED = (
    *("images", "public_facts", "ingestion_report", "private_sheet"),
    *("teacher", "teacher_recipe", "lineage"),
)
# Groups that every arm has for itself, beside those of its synthesizer.
OWN = ("student_training",)
CHOICE = "choice"  # which snapshot of the generator is sampled, and how: made by `choose_generator`
# Steps that have a stage of their own, with pictures of what they did.
STAGE_OF_STEP = {
    "caption_members": "captioning",
    "adapt_generator": "generator_adaptation",
    "evolve_prompts": "prompt_evolution",
}


def arm_stages(arm: str) -> dict[str, Pipeline]:
    """Return the stages of an arm by name, in order: its steps, images, student, audit.

    The default arm keeps plain names; the datasets and groups of another are `<arm>.<name>`.
    """
    synthesizer = synthesizer_class(arm)
    stages: dict[str, Pipeline] = {}
    for step in synthesizer.steps:
        name = STAGE_OF_STEP.get(step.name)
        if name is not None:
            stages[name] = _stage(name)
        else:
            stages[step.name] = as_stage(step.name, [step_node(step, synthesizer)])
    for name in ("knowledge_recycling", "student_training", "privacy_audit"):
        stages[name] = _stage(name, synthesizer)
    return {name: _of_arm(arm, made) for name, made in stages.items()}


def arm_release(arm: str, *, of_this_run: bool) -> Pipeline:
    """Return the release of an arm: the last stage of its run, or a job on what an earlier run made."""
    module = import_module("tckr.pipelines.release")
    return _of_arm(arm, module.create_pipeline(synthesizer_class(arm), of_this_run=of_this_run))


def _of_arm(arm: str, made: Pipeline) -> Pipeline:
    """Return a stage with the datasets and groups of an arm under its name; those of the default arm stay plain."""
    if arm == DEFAULT:
        return made
    synthesizer = synthesizer_class(arm)
    own = {*synthesizer.model_fields, *OWN}
    return in_namespace(arm, made, set(SHARED) - set(synthesizer.artefacts()), own)


def in_a_box(arm: str, pipeline: Pipeline) -> Pipeline:
    """Return the pipeline of an arm with all that is its own under its name; datasets keep their names.

    Beside other arms the default arm is a box too, with its stages inside.
    """
    if arm != DEFAULT:
        return pipeline
    own: Pipeline = sum(arm_stages(arm).values(), Pipeline([]))
    boxed = Pipeline(own, namespace=arm, prefix_datasets_with_namespace=False)
    return (pipeline - own) + boxed


def shared_pipeline(arm: str = DEFAULT) -> Pipeline:
    """Return what an arm reads and does not make for itself: the teacher, unless it has one of its own."""
    if synthesizer_class(arm).own_teacher:
        return Pipeline([])
    module = import_module("tckr.pipelines.knowledge_recycling")
    made: Pipeline = module.create_teacher_pipeline()
    return made


def _stage(name: str, *arguments: Any) -> Pipeline:
    made: Pipeline = import_module(f"tckr.pipelines.{name}").create_pipeline(*arguments)
    return made


def step_node(step: Step, arm: type[Synthesizer]) -> Node:
    """Return the node of one step: it runs the synthesizer's own method on the members."""

    def run_step(
        synthesizer: Synthesizer,
        artefacts: Mapping[str, Any],
        seed: int,
        images: pd.DataFrame | None = None,
        public_facts: dict[str, Any] | None = None,
    ) -> Any:
        private: PrivateSet | PublicFacts
        if images is None:
            private = PublicFacts(**(public_facts or {}))
        else:
            members = of_split(images, "members")
            pixels, labels = images_and_labels(members)
            private = PrivateSet(pixels, labels, class_names(images), owners(members))
            artefacts = aligned(artefacts, synthesizer, members)
        made = getattr(synthesizer, step.name)(private, artefacts, seed, best())
        if step.per_image:
            ids = members["image_id"].to_numpy()
            made = tuple(table.assign(image_id=ids) for table in made)
        return made[0] if len(made) == 1 else made

    run_step.__name__, run_step.__doc__ = step.name, getattr(arm, step.name).__doc__
    outputs = list(step.makes) if len(step.makes) > 1 else step.makes[0]
    read_from = "images" if step.private else "public_facts"
    datasets = {read_from: read_from, "seed": SEED}
    return arm_node(run_step, arm, datasets, outputs, artefacts=arm.read_by(step), chosen=False)


def arm_node(
    function: Callable[..., Any],
    arm: type[Synthesizer],
    datasets: Mapping[str, str],
    outputs: str | list[str],
    *,
    artefacts: Sequence[str] = (),
    extra: Mapping[str, str] | None = None,
    chosen: bool = True,
) -> Node:
    """Return the node of a function of an arm: `function(synthesizer, artefacts, **datasets)`.

    The node takes the arm's parameter groups and artefacts by their own names, so that Kedro validates and draws them.

    Args:
        function: named as the node.
        arm: its synthesizer's class.
        datasets: catalog entry of each further argument.
        outputs: catalog entries that it makes.
        artefacts: those of the arm that it reads.
        extra: artefacts under other names, by the name that the function reads them by.
        chosen: of an arm that chooses, hand over the synthesizer as it was chosen; False before that.
    """
    chosen = chosen and arm.chooses
    groups = {name: field.annotation for name, field in arm.model_fields.items()}
    read = {**{name: name for name in artefacts}, **(extra or {})}
    read |= {CHOICE: CHOICE} if chosen else {}
    if both := groups.keys() & {*read, *datasets}:
        raise ValueError(f"{arm.__name__} calls parameters and an artefact {', '.join(both)}")

    def call(**given: Any) -> Any:
        synthesizer = arm(**{name: given.pop(name) for name in groups})
        synthesizer.check()
        made = {name: given.pop(name) for name in read}
        if chosen:
            synthesizer = synthesizer.with_choice(Choice.model_validate(made.pop(CHOICE)))
        return function(synthesizer, made, **given)

    hints = get_type_hints(function)
    typed = {**groups, **dict.fromkeys(read, Any), **{n: hints.get(n, Any) for n in datasets}}
    call.__name__ = call.__qualname__ = function.__name__
    call.__doc__, call.__module__ = function.__doc__, function.__module__
    call.__annotations__ = {**typed, "return": hints.get("return", Any)}
    kind = inspect.Parameter.KEYWORD_ONLY
    call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, kind, annotation=hint) for name, hint in typed.items()]
    )
    inputs = {name: f"params:{name}" for name in groups} | read | dict(datasets)
    return Node(call, inputs=inputs, outputs=outputs, name=function.__name__)


def aligned(artefacts: Mapping[str, Any], arm: Synthesizer, rows: pd.DataFrame) -> dict[str, Any]:
    """Return the artefacts, those that are per image in the order of `rows`."""
    per_image = set(arm.artefacts(per_image=True))
    return {
        name: made.set_index("image_id").loc[rows["image_id"]].reset_index()
        if name in per_image
        else made
        for name, made in artefacts.items()
    }
