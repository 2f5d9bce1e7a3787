"""Keep a run whole: pin what it reads, write its manifest, restore the settings of what it starts from."""

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.io.core import AbstractVersionedDataset, Version
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from tckr.engine.once_saved import over, saved
from tckr.errors import UserError
from tckr.hooks.manifest import describe_run
from tckr.hooks.project import saved_path
from tckr.hooks.restore import ENGINE, PARENT, PREFIX, RESUME, Past, restore_settings
from tckr.hooks.unfinished import (
    find_unfinished,
    plan_resumption,
    remove_leftovers,
    works_of,
)
from tckr.lineage import (
    FOLDER,
    Ancestor,
    Artefact,
    Manifest,
    Runs,
    check_agreement,
    check_unchanged,
    choose_parent,
    hash_files,
    seconds_behind,
)
from tckr.options import leaves
from tckr.resume import NothingToResume, Resumption, Work

logger = logging.getLogger(__name__)
LINEAGE = "lineage"  # the catalog entry that says what the run is
DURATIONS = "durations"  # and the one that says how much work is behind each artefact


class Lineage:
    """Every artefact knows what it was made from; a run never mixes those of two others.

    * What a run saves is what its later nodes read, whatever appears beside it meanwhile.
    * What it does not make itself, it reads from one earlier run: its parent.
    * The settings of what it starts from are those that were used to make it, not today's configuration.
    * With `resume` it takes up what an unfinished run left whole; see `tckr.resume`.
    """

    def __init__(self) -> None:
        """Start with no run."""
        self._project, self._data, self._runs = Path(), Path(), Runs(Path())
        self._given: dict[str, Any] = {}
        self._reset()

    def _reset(self) -> None:
        self.manifest: Manifest | None = None
        self.parent: Manifest | None = None
        self.restored: dict[str, tuple[Any, Any]] = {}  # key: (value of the configuration, used)
        self.resumption: Resumption | None = None
        self.killed: list[Manifest] = []  # found at the start of this run
        self.remarks: list[str] = []  # for the plan
        self._inputs: dict[str, Artefact] = {}
        self._in_memory: dict[str, Artefact] = {}
        self._past: list[Manifest] = []
        self._since = 0.0
        self._begun = False

    @property
    def taken(self) -> Mapping[str, Artefact]:
        """What the run takes up of an unfinished one, by entry."""
        return {} if self.resumption is None else self.resumption.taken

    @property
    def private_set(self) -> str | None:
        """Data hash of the private set that the run works on; None before it is known."""
        made = self.manifest.artefacts if self.manifest is not None else {}
        known = [one.private_set for one in (*self._inputs.values(), *made.values())]
        return next((one for one in known if one is not None), None)

    def last_seconds(self, stage: str) -> float | None:
        """Return how long a stage took in the newest finished run that had it; None without one."""
        for run in self._past:
            seconds = [s for node, s in run.seconds.items() if node.rpartition(".")[0] == stage]
            if seconds and run.status == "finished":
                return sum(seconds)
        return None

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Learn where the manifests lie and what the command line gave."""
        self._project = Path(context.project_path)
        self._data = self._project / context.config_loader["globals"]["data"]
        self._runs = Runs(self._data / FOLDER)
        self._given = dict(context.config_loader.runtime_params or {})

    @hook_impl(tryfirst=True)
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        """Choose the parent and what is taken up, pin every version, restore settings, and prepare the manifest."""
        self._reset()
        self._catalog = catalog
        _check_way_of_running(run_params, self._given)
        self.killed = self._runs.mark_killed()
        self._past = self._runs.newest_first()
        versioned = {
            name
            for name in pipeline.datasets()
            if isinstance(dataset := catalog.get(name), AbstractVersionedDataset)
            and dataset._version is not None
        }
        remove_leftovers(self.killed, [catalog.get(name) for name in versioned], self._project)
        works = works_of(pipeline, versioned, catalog) if RESUME in self._given else []
        unfinished = self._find_unfinished(works) if works else None
        needed = frozenset(versioned & pipeline.inputs())
        named = self._named_parent(run_params, catalog)
        if needed or named:
            self._inherit(needed, named or (unfinished.parent if unfinished else None))
        past = Past(self.parent, self._inputs, explicit=named is not None)
        self.restored = restore_settings(past, self._given, pipeline, catalog)
        command = self._command_parameters()
        manifest = describe_run(
            run_params, pipeline, catalog, command, self.parent, self._project, self._data
        )
        if unfinished is not None:
            manifest = self._take_up(unfinished, manifest, works)
        self.manifest = manifest
        for name in versioned:
            before = self._inputs.get(name)
            save = self.taken[name].run if name in self.taken else run_params["run_id"]
            _pin(catalog.get(name), before.run if before else save, save)
        self._tell()
        self._time()

    def _find_unfinished(self, works: Sequence[Work]) -> Manifest | None:
        """Return the run that `resume` means; None if there is nothing to resume, and then say so."""
        named, nodes = str(self._given[RESUME]), [work.name for work in works]
        try:
            return find_unfinished(named, self._runs, nodes, self._command_parameters())
        except NothingToResume as nothing:
            self.remarks.append(f"{nothing}: starts from the beginning")
            return None

    def _take_up(self, unfinished: Manifest, manifest: Manifest, works: Sequence[Work]) -> Manifest:
        """Return the manifest of this run, standing on what an unfinished one left whole."""
        try:
            found = plan_resumption(unfinished, manifest, works, self._inputs, self._project)
        except NothingToResume as nothing:
            self.remarks.append(f"{nothing}: starts from the beginning")
            return manifest
        # Of another machine or container, whose processes are not seen from here.
        if unfinished.status == "running":
            self.killed.append(unfinished.model_copy(update={"status": "killed"}))
            self._runs.save(self.killed[-1])
        self.resumption = found
        return found.stand(manifest)

    def _command_parameters(self) -> dict[str, Any]:
        """Return the parameters of the command that change what a run does."""
        return {
            key: str(value)
            for key, value in leaves(self._given)
            if key not in (RESUME, "run_name") and key.split(".")[0] != ENGINE
        }

    def _named_parent(self, run_params: dict[str, Any], catalog: CatalogProtocol) -> str | None:
        """Return the run to start from, by `parent` or by versions that all are of one run."""
        named = self._given.get(PARENT)
        versions = {str(run) for run in (run_params.get("load_versions") or {}).values()}
        if named is not None:
            versions.add(str(named))
        if len(versions) > 1:
            self._check_mixture(run_params, named)
            raise UserError(
                f"This run would read artefacts of several runs ({', '.join(sorted(versions))}).",
                f"name one run, from which all inputs are read: --params={PARENT}={max(versions)}.",
            )
        return next(iter(versions), None)

    def _check_mixture(self, run_params: dict[str, Any], named: Any) -> None:
        """Say precisely in which ancestor artefacts of several runs disagree, if they do."""
        found = []
        for entry, run in (run_params.get("load_versions") or {}).items():
            artefact = self._runs.load(str(run)).view().get(entry)
            if artefact is not None:
                found.append(artefact)
        if named is not None:
            found += self._runs.load(str(named)).view().values()
        check_agreement(found)

    def _inherit(self, needed: frozenset[str], named: str | None) -> None:
        if named is not None:
            self._runs.load(named)  # says which runs there are, or why it cannot be read
        self.parent = choose_parent(self._past, needed, self._project, named)
        view = self.parent.view()
        self._inputs = {name: view[name] for name in sorted(needed)}
        check_agreement(self._inputs.values())
        for artefact in self._inputs.values():
            check_unchanged(artefact, self._project)

    def _tell(self) -> None:
        """Let the report know what it is a report of."""
        if self.manifest is None or LINEAGE not in self._catalog:
            return
        changed = " with uncommitted changes" if self.manifest.changed else ""
        facts = {
            "Run": self.manifest.run,
            "Starts from run": self.manifest.parent or "raw images",
            **({"Resumes run": self.manifest.resumes} if self.manifest.resumes else {}),
            "Private set (SHA-256)": self.private_set or "not yet known",
            "Commit": f"{self.manifest.commit or 'unknown'}{changed}",
        }
        self._catalog.get(LINEAGE).save(facts)

    def _time(self) -> None:
        """Let whoever compares arms know how long each took, in this run and in those that it stands on."""
        if self.manifest is not None and DURATIONS in self._catalog:
            self._catalog.get(DURATIONS).save(seconds_behind(self.manifest, self._past))

    @hook_impl
    def before_dataset_loaded(self, dataset_name: str, node: Node) -> None:
        """Let the time of a node begin with its first input; the first node of all begins the manifest.

        A run that was refused before leaves none.
        """
        del node
        self._since = self._since or time.perf_counter()
        if self.manifest is not None and not self._begun:
            self._begun = True
            self._runs.save(self.manifest)
        if dataset_name == DURATIONS:
            self._time()

    @hook_impl
    def after_dataset_loaded(self, dataset_name: str, data: Any) -> None:
        """Note which private set an earlier run left."""
        self._note_private_set(dataset_name, data)

    @hook_impl(tryfirst=True)
    def before_node_run(self, node: Node) -> None:
        """Refuse inputs that disagree about an ancestor."""
        check_agreement(self._made_from(node))

    @hook_impl(tryfirst=True)
    def after_dataset_saved(self, dataset_name: str, data: Any, node: Node) -> None:
        """Record what was saved and what it was made from."""
        if self.manifest is None:
            return
        made_from = self._made_from(node)
        ancestors: dict[str, Ancestor] = {}
        settings: dict[str, str] = {}
        private_set = None
        for parent in made_from:
            ancestors |= parent.ancestors
            settings |= parent.settings
            private_set = private_set or parent.private_set
        ancestors |= {
            one.entry: Ancestor(run=one.run, hash=one.hash)
            for one in made_from
            if one.entry not in self._in_memory
        }
        groups = [name.removeprefix(PREFIX) for name in node.inputs if name.startswith(PREFIX)]
        settings |= {group: self.manifest.used[group] for group in groups}
        dataset = self._catalog.get(dataset_name)
        versioned = isinstance(dataset, AbstractVersionedDataset) and dataset._version is not None
        path = saved_path(dataset) if versioned else Path()
        versioned = versioned and path.exists()  # a release that is refused leaves nothing
        artefact = Artefact(
            entry=dataset_name,
            run=self.manifest.run,
            hash=hash_files(path) if versioned else "",
            path=os.path.relpath(path, self._project) if versioned else "",
            node=node.name,
            ancestors=ancestors,
            settings=settings,
            private_set=private_set,
        )
        if not versioned:
            self._in_memory[dataset_name] = artefact
            return
        seconds = dict(self.manifest.seconds)
        now = time.perf_counter()
        seconds[node.name] = round(seconds.get(node.name, 0.0) + now - (self._since or now), 3)
        self._since = 0.0
        made = {**self.manifest.artefacts, dataset_name: artefact}
        self.manifest = self.manifest.model_copy(update={"artefacts": made, "seconds": seconds})
        self._note_private_set(dataset_name, data)
        self._runs.save(self.manifest)
        if set(node.outputs) <= self._in_memory.keys() | made.keys():
            saved()

    def _note_private_set(self, name: str, data: Any) -> None:
        dataset = self._catalog.get(name) if self.manifest is not None else None
        if self.manifest is None or not (getattr(dataset, "metadata", None) or {}).get(
            "private_set"
        ):
            return
        artefact = self.manifest.artefacts.get(name) or self._inputs.get(name)
        if artefact is None or artefact.private_set is not None:
            return
        from tckr.images.report import data_hash

        known = artefact.model_copy(update={"private_set": data_hash(data)})
        if name in self.manifest.artefacts:
            made = {**self.manifest.artefacts, name: known}
            self.manifest = self.manifest.model_copy(update={"artefacts": made})
        else:
            self._inputs[name] = known
        self._tell()

    def _made_from(self, node: Node) -> list[Artefact]:
        """Return the artefacts that a node reads."""
        own = self.manifest.artefacts if self.manifest is not None else {}
        known = {**self._inputs, **self._in_memory, **own}
        return [known[name] for name in dict.fromkeys(node.inputs) if name in known]

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Mark the run as finished."""
        self._begun = True  # even if it took up everything
        self._end("finished")

    @hook_impl
    def on_pipeline_error(self) -> None:
        """Mark the run as failed, and say that what it saved stays usable."""
        if self.manifest is not None and self.manifest.artefacts:
            logger.info(
                "What is finished is kept: the same command with --params=resume=last goes on."
            )
        with suppress(UserError):  # of a full disk: the error that ends the run is to be seen
            self._end("failed")

    def on_interrupt(self) -> None:
        """Mark as killed a run that was stopped by hand: the command line calls this, since Kedro's hooks are not."""
        with suppress(UserError):
            self._end("killed")

    def _end(self, status: str) -> None:
        over()
        if self.manifest is not None and self.manifest.status == "running" and self._begun:
            self.manifest = self.manifest.model_copy(update={"status": status})
            self._runs.save(self.manifest)


def _check_way_of_running(run_params: dict[str, Any], given: Mapping[str, Any]) -> None:
    if RESUME in given and not run_params.get("only_missing_outputs"):
        raise UserError(
            "This session cannot resume a run.", "start it with kedro run, or tckr.hooks.session."
        )
    if run_params.get("only_missing_outputs") and RESUME not in given:
        raise UserError(
            "--only-missing-outputs looks only at whether outputs exist, not at what they were made from.",
            "go on with an unfinished run by --params=resume=last, or run the stages that changed: kedro run"
            " --namespaces=<stage>.",
        )
    runner = str(run_params.get("runner") or "")
    if "Parallel" in runner:
        raise UserError(
            "ParallelRunner calls no hooks in its workers, so nothing would record what was made from what.",
            "leave --runner out: the long stages use all cores by themselves.",
        )


def _pin(dataset: Any, load: str, save: str) -> None:
    """Let a versioned dataset read and write these versions, whatever appears beside them."""
    dataset._version = Version(load, save)
    dataset._clear_version_cache()


def describe_start(lineage: Lineage) -> Iterator[str]:
    """Yield the lines of the plan that say where a run starts from."""
    yield from lineage.remarks
    if lineage.resumption is not None:
        yield from lineage.resumption.describe()
    if lineage.parent is None:
        return
    parent = lineage.parent
    yield f"starts from run {parent.run} ({parent.pipeline}, {parent.status}): {', '.join(lineage._inputs)}"
    for key, (configured, used) in sorted(lineage.restored.items()):
        yield f"as that run: {key} = {used} (the configuration says {configured})"
