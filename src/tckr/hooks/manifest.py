"""What is known of a run before its first node."""

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kedro.io import CatalogProtocol
from kedro.io.core import AbstractVersionedDataset
from kedro.io.memory_dataset import MemoryDataset
from kedro.pipeline import Pipeline

from tckr.engine.code import code_state
from tckr.hooks.project import git_state
from tckr.hooks.restore import PREFIX, plain
from tckr.hooks.unfinished import state_of
from tckr.lineage import Artefact, Manifest, fingerprint
from tckr.process import Process


def describe_run(
    run_params: Mapping[str, Any],
    pipeline: Pipeline,
    catalog: CatalogProtocol,
    command: Mapping[str, Any],
    parent: Manifest | None,
    project: Path,
    data: Path,
) -> Manifest:
    """Return the manifest of a run that has made nothing yet.

    Args:
        run_params: Kedro's facts of the run.
        pipeline: that will run.
        catalog: with the parameters that are in force.
        command: parameters of the command line.
        parent: run that its inputs come from.
        project: its folder.
        data: folder of artefacts.
    """
    git = git_state(project)
    used, parameters = {}, {}
    for name in sorted(pipeline.inputs()):
        if name.startswith(PREFIX):
            values = plain(catalog.load(name))
            used[name.removeprefix(PREFIX)] = mark = fingerprint(values)
            parameters[mark] = values
    view: dict[str, Artefact] = {}
    if parent is not None:
        view = parent.view()
        for made in view.values():
            for mark in made.settings.values():
                parameters[mark] = parent.parameters[mark]
    sources = {
        name: os.path.abspath(dataset._filepath)
        for name in pipeline.inputs()
        if not isinstance(dataset := catalog.get(name), MemoryDataset | AbstractVersionedDataset)
        and hasattr(dataset, "_filepath")
    }
    contents = {name: state_of(Path(place), data) for name, place in sources.items()}
    if parent is not None:
        sources = {**parent.sources, **sources}
    return Manifest(
        run=run_params["run_id"],
        pipeline=" + ".join(run_params.get("pipeline_names") or ["__default__"]),
        command=shlex.join(["kedro", *sys.argv[1:]]),
        commit=git.get("git_commit"),
        changed=git.get("git_changed") == "true" if git else None,
        process=Process.this(),
        given=dict(command),
        nodes=[node.name for node in pipeline.nodes],
        code=code_state(),
        parent=None if parent is None else parent.run,
        sources=sources,
        contents=contents,
        used=used,
        parameters=parameters,
        inherited=view,
    )
