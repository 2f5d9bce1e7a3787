"""Refuse a run that cannot work before it has cost anything."""

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, get_type_hints

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from pydantic import BaseModel, TypeAdapter, ValidationError

from tckr.engine import EngineOptions
from tckr.engine.places import is_local
from tckr.engine.places import place as place_of
from tckr.errors import UserError
from tckr.hooks.classes import ClassCheck
from tckr.hooks.memory import check_memory
from tckr.hooks.models import check_adapter, check_model, models_of
from tckr.hooks.restore import ENGINE
from tckr.images.canaries import copies_of
from tckr.images.options import IngestionOptions
from tckr.pipeline_registry import ASIDE
from tckr.pipelines.charged import arms_under_dp, check_adjacency, check_charged
from tckr.release.signing import Signing
from tckr.synthesizers.mixture import check_mixture
from tckr.synthesizers.registry import DEFAULT, synthesizer_class

# Parameters that the catalog and mlflow.yml read, not a node.
OUTSIDE = {"images", "run_name", "parent", "resume", ENGINE}
# Groups whose `checkpoints` may be a URL.
ANYWHERE = ("captioning", "generator_adaptation", "privacy_audit")
AUDITED = ("members", "holdout")  # splits


class Checks:
    """Parameters are known and in range, what the run starts from is there, and what it will draw finds room."""

    def __init__(self) -> None:
        """Nothing is known before a run."""
        self._catalog: CatalogProtocol | None = None
        self._drawing: dict[str, Any] = {}
        self._classes = ClassCheck(Pipeline([]), None)
        self._auditing: dict[str, Any] = {}
        self._under_dp: list[str] = []

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Check every parameter, ahead of Kedro's own validation, whose message takes many lines."""
        check_parameters(context.config_loader["parameters"], pipelines.values())

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Check that the catalog and the disk have what the nodes load."""
        check_inputs(pipeline, catalog)
        check_charged(pipeline)
        self._catalog = catalog
        self._under_dp = arms_under_dp(pipeline)
        self._classes = ClassCheck(pipeline, catalog)
        groups = {
            name: catalog.load(name) for name in pipeline.inputs() if name.startswith("params:")
        }
        for name, options in groups.items():
            for model in models_of(name.removeprefix("params:"), options):
                check_model(*model)
            if _stage_runs(name, pipeline):
                check_adapter(name.removeprefix("params:"), options)
            check_places(name.removeprefix("params:"), options)
            check_mixed(name.removeprefix("params:"), options)
            check_taught(name.removeprefix("params:"), options, groups)
            if isinstance(options, Signing):
                options.signer()
            if isinstance(options, IngestionOptions):
                planted = options.canaries
                check_adjacency(self._under_dp, planted.copies if planted.duplicated else 1)
        self._drawing = {
            name: options
            for name, options in groups.items()
            if hasattr(options, "n_images") and _stage_runs(name, pipeline, options.about)
        }
        self._auditing = {
            name: options for name, options in groups.items() if hasattr(options, "n_shadows")
        }

    @hook_impl
    def after_dataset_loaded(self, dataset_name: str, data: Any) -> None:
        """Check what follows from the number of private images, as soon as they can be counted."""
        self._check_counts(dataset_name, data)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Check what follows from the number of private images, as soon as they can be counted."""
        self._check_counts(dataset_name, data)

    def _check_counts(self, name: str, data: Any) -> None:
        waiting = self._catalog is not None and (
            self._drawing or self._auditing or self._classes.pending or self._under_dp
        )
        dataset: Any = self._catalog.get(name) if self._catalog is not None and waiting else None
        if not (getattr(dataset, "metadata", None) or {}).get("private_set"):
            return
        check_adjacency(self._under_dp, copies_of(data))
        self._under_dp = []
        while self._auditing:
            name, options = self._auditing.popitem()
            audited = int(data["split"].isin(AUDITED).sum())
            check_shadows(options.n_shadows, audited, f"{name.removeprefix('params:')}.n_shadows")
        members = data[data["split"] == "members"]
        while self._drawing:
            name, options = self._drawing.popitem()
            key = f"{name.removeprefix('params:')}.{options.size_field}"
            check_memory(options.n_images(len(members)), members, key)
        self._classes.check(data)


def check_parameters(raw: Mapping[str, Any], registered: Iterable[Pipeline]) -> None:
    """Validate `raw` parameters against the annotations of the nodes that take them.

    Raises:
        UserError: a key that nothing reads, or a value that its stage refuses.
    """
    expected: dict[str, Any] = {ENGINE: EngineOptions} if ENGINE in raw else {}
    for pipeline in registered:
        for name, annotation in _annotations(pipeline):
            expected[name] = annotation
    tops = {name.split(".")[0] for name in expected} | OUTSIDE | set(ASIDE)
    for key in raw:
        if key not in tops:
            raise UserError(f"Parameter {key} does not exist.", _nearest(key, tops))
    for name, annotation in expected.items():
        value: Any = raw
        for part in name.split("."):
            if part not in value:
                raise UserError(
                    f"Parameter {name} is not set.",
                    f"set it in conf/ or with --params={name}=<value>.",
                )
            value = value[part]
        try:
            TypeAdapter(annotation).validate_python(value)
        except ValidationError as error:
            raise _readable(name, annotation, error) from None


def check_inputs(pipeline: Pipeline, catalog: CatalogProtocol) -> None:
    """Check that what `pipeline` starts from exists.

    Raises:
        UserError: a file or an artefact is missing.
    """
    for name in sorted(pipeline.inputs()):
        if name.startswith("params:") or name == "parameters":
            continue
        dataset = catalog.get(name)
        if hasattr(dataset, "check"):
            dataset.check()
        elif not catalog.exists(name):
            raise UserError(
                f"This stage starts from {name}, which no run has made yet.",
                f"run the stages before it too: kedro run --to-outputs={name}, or a pipeline by name, or `make run`.",
            )


def check_places(group: str, options: Any) -> None:
    """Check that long stages can save what they resume from.

    Args:
        group: name of a parameter group.
        options: its typed options, of which every `checkpoints` names a folder; anything else names none.

    Raises:
        UserError: a file lies in the way, or a URL is given to a stage that needs a folder.
    """
    if isinstance(options, tuple):
        for number, each in enumerate(options):
            check_places(f"{group}.{number}", each)
    if not isinstance(options, BaseModel):
        return
    for name in type(options).model_fields:
        value, key = getattr(options, name), f"{group}.{name}"
        if name != "checkpoints" or not value:
            check_places(key, value)
            continue
        if not is_local(folder := place_of(value)):
            if group.rpartition(".")[2] not in ANYWHERE:
                raise UserError(
                    f"{key} = {value} is a URL, and this stage keeps its unfinished work in a folder.",
                    f"name a folder; URLs are for {', '.join(ANYWHERE)}, and for engine.storage.",
                )
            continue
        for place in (folder, *folder.parents):
            if place.exists() and not place.is_dir():
                raise UserError(
                    f"{key} = {value} is no folder: {place} is a file.",
                    "name a folder; it is made when it is needed.",
                )


def check_mixed(group: str, options: Any) -> None:
    """Check that an arm may draw from the further generators that a group of its parameters names.

    Args:
        group: name of a parameter group, that of an arm under the arm's name.
        options: its typed options; anything without `mixture` names none.

    Raises:
        UserError: it may not.
    """
    if getattr(options, "mixture", ()):
        arm = synthesizer_class(group.rpartition(".")[0] or DEFAULT)
        check_mixture(arm.partly(knowledge_recycling=options))


def check_taught(group: str, options: Any, groups: Mapping[str, Any]) -> None:
    """Check that a student of soft labels has a teacher to give them.

    Args:
        group: name of a parameter group.
        options: its typed options; only `<arm>.privacy` may leave the teacher without a share of the budget.
        groups: all groups that the run reads, by `params:<name>`.

    Raises:
        UserError: it has none.
    """
    arm, _, name = group.rpartition(".")
    student = groups.get(f"params:{arm}.student_training")
    if name != "privacy" or student is None or getattr(options, "teacher", True):
        return
    if (labels := student.labels) != "hard":
        raise UserError(
            f"{group}.teacher is 0, so that nobody says what an image shows, and {arm}.student_training.labels is {labels}.",
            f"set {arm}.student_training.labels to hard, the class that an image was asked for, or give the teacher a share.",
        )


def check_shadows(n_shadows: int, audited: int, key: str) -> None:
    """Check that every shadow has images to train on: it gets half of each round of as many images as there are shadows.

    Args:
        n_shadows: shadow models.
        audited: members and holdout images.
        key: the parameter that sets `n_shadows`.

    Raises:
        UserError: there are more shadows than images.
    """
    if n_shadows > audited:
        raise UserError(
            f"{key} = {n_shadows} is more than the {audited} audited images (members and holdout): some shadows would"
            " train on none.",
            f"lower it to {audited - audited % 2} or less, or ingest more images.",
        )


def _stage_runs(name: str, pipeline: Pipeline, about: str | None = None) -> bool:
    """Whether the stage that a parameter group is named after reads it here: others read it, but draw nothing by it.

    With `about` that node of the stage alone counts.
    """
    stage = name.removeprefix("params:").rpartition(".")[2]
    return any(
        name in node.inputs
        and (node.namespace or "").rpartition(".")[2] == stage
        and about in (None, node.name.rpartition(".")[2])
        for node in pipeline.nodes
    )


def _annotations(pipeline: Pipeline) -> Iterator[tuple[str, Any]]:
    """Yield the name and annotation of every parameter that a node of `pipeline` takes."""
    for node in pipeline.nodes:
        hints = get_type_hints(node.func)
        arguments = [name for name in hints if name != "return"]
        named = (
            node._inputs
            if isinstance(node._inputs, dict)
            else dict(zip(arguments, node.inputs, strict=False))
        )
        for argument, dataset in named.items():
            if dataset.startswith("params:") and argument in hints:
                yield dataset.removeprefix("params:"), hints[argument]


def _readable(name: str, annotation: Any, error: ValidationError) -> UserError:
    """Say the first of the validation errors in one line."""
    first, more = error.errors()[0], error.error_count() - 1
    place = [str(part) for part in first["loc"]]
    key = ".".join([name, *place])
    also = f" ({more} more after this one.)" if more else ""
    if first["type"] == "extra_forbidden":
        known = {".".join([name, *place[:-1], field]) for field in _fields(annotation, place[:-1])}
        return UserError(f"Parameter {key} does not exist.", _nearest(key, known) + also)
    if not place and first["type"] == "value_error":
        said = first["msg"].removeprefix("Value error, ")
        return UserError(
            f"The parameters of {name} do not go together: {said}.", f"change one.{also}"
        )
    meaning = _meaning(annotation, place)
    problem = f"Parameter {key} = {first['input']!r} is refused: {first['msg'].lower()}."
    return UserError(
        problem, f"give {key} another value{f' ({meaning})' if meaning else ''}.{also}"
    )


def _fields(annotation: Any, place: list[str]) -> Mapping[str, Any]:
    """Return the fields of the options model that lies at `place` below `annotation`."""
    for part in place:
        fields = _fields(annotation, [])
        annotation = fields[part].annotation if part in fields else None
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return annotation.model_fields if is_model else {}


def _meaning(annotation: Any, place: list[str]) -> str:
    field = _fields(annotation, place[:-1]).get(place[-1]) if place else None
    return (field.description or "") if field is not None else ""


def _nearest(key: str, known: Iterable[str]) -> str:
    """Suggest what was meant."""
    names = sorted(known)
    close = get_close_matches(key, names, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(names)}."
