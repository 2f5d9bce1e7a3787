"""What resuming asks of the code, the raw files, the catalog and the disk."""

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from tckr.engine.code import code_state
from tckr.errors import UserError
from tckr.hooks.restore import PREFIX
from tckr.lineage import Artefact, Manifest, Runs, is_unchanged
from tckr.resume import (
    LAST,
    Resumption,
    Today,
    Work,
    check_can_be_resumed,
    choose_unfinished,
    take_up,
)

LISTS = (".csv", ".tsv")  # of images that lie beside them
PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".dcm", ".npy"}
# Entries that are of one run alone: whoever reads them is made again by every run.
OF_THE_RUN = {"parameters", "lineage", "durations"}


def state_of(source: Path, data: Path) -> str:
    """Return a hash of the names, sizes and times of the files of a source of raw images.

    Args:
        source: a folder, a file, or a list of images that lie beside it.
        data: folder of the runs' own artefacts, which are no raw images unless the source lies in it.
    """
    if source.is_dir():
        files = list(_walk(source, data))
    elif source.suffix.lower() in LISTS:
        beside = _walk(source.absolute().parent, data)
        files = [source, *(file for file in beside if file.suffix.lower() in PICTURES)]
    else:
        files = [source]
    digest = hashlib.sha256()
    for file in sorted(files):
        with suppress(OSError):  # removed meanwhile, or a link to nowhere
            state = file.stat()
            digest.update(f"{os.fsencode(file)!r} {state.st_size} {state.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def _walk(folder: Path, data: Path) -> Iterator[Path]:
    """Yield the files below a folder, through links, each folder once; leave out hidden ones and the runs' own."""
    seen: set[str] = set()
    own = set() if folder.resolve().is_relative_to(data.resolve()) else {str(data.resolve())}
    for place, below, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen | own:
            below.clear()
            continue
        seen.add(real)
        below[:] = [name for name in below if not name.startswith(".") and name != "mlruns"]
        yield from (Path(place) / name for name in files)


def works_of(pipeline: Pipeline, versioned: Iterable[str], catalog: CatalogProtocol) -> list[Work]:
    """Return the nodes of a pipeline as resuming sees them.

    Raises:
        UserError: the pipeline overwrites files that have no versions, so nothing tells the runs apart.
    """
    known = set(versioned)
    works = []
    for node in pipeline.nodes:
        for name in node.outputs:
            if name not in known and getattr(catalog.get(name), "_filepath", None) is not None:
                raise UserError(
                    f"{name} has no versions, so a run that makes it cannot be resumed by name.",
                    "leave out resume: the same command goes on from what the run had not finished.",
                )
        inputs = tuple(name for name in node.inputs if not name.startswith(PREFIX))
        works.append(
            Work(
                name=node.name,
                inputs=inputs,
                groups=tuple(n.removeprefix(PREFIX) for n in node.inputs if n.startswith(PREFIX)),
                outputs=tuple(node.outputs),
                kept=set(node.outputs) <= known and not OF_THE_RUN & set(inputs),
            )
        )
    return works


def find_unfinished(
    named: str, runs: Runs, nodes: Sequence[str], command: Mapping[str, Any]
) -> Manifest:
    """Return the run that `resume=<named>` means.

    Raises:
        NothingToResume: `last` was asked for, and no run is unfinished.
        UserError: the named run is not there, still running, or made by other code.
    """
    if named == LAST:
        return choose_unfinished(runs.newest_first(), nodes, command, code_state())
    run = runs.load(named)
    check_can_be_resumed(run, code_state())
    return run


def plan_resumption(
    unfinished: Manifest,
    manifest: Manifest,
    works: Sequence[Work],
    inputs: Mapping[str, Artefact],
    project: Path,
) -> Resumption:
    """Return what a run takes up of an unfinished one.

    Args:
        unfinished: the run to resume.
        manifest: of the run that is about to start.
        works: its nodes.
        inputs: what it reads of its parent.
        project: folder to which the paths of artefacts are relative.

    Raises:
        NothingToResume: none of what the unfinished run made can stand.
        UserError: it is finished, and all of it stands.
    """
    today = Today(manifest.used, manifest.parameters, manifest.contents, inputs)
    return take_up(unfinished, works, today, lambda artefact: is_unchanged(artefact, project))


def remove_leftovers(killed: Iterable[Manifest], datasets: Iterable[Any], project: Path) -> None:
    """Remove what killed runs left half-written: all in the folders of their versions that no manifest tells of."""
    places = [Path(dataset._filepath) for dataset in datasets]
    for run in killed:
        recorded = {(project / made.path).resolve() for made in run.artefacts.values()}
        for place in places:
            for path in place.glob(f".{run.run}-*"):  # of a folder that is a version itself
                shutil.rmtree(path, ignore_errors=True)
            for path in (place / run.run).glob("*"):
                unfinished = path.name == place.name or path.name.startswith(f".{place.name}-")
                if not unfinished or path.resolve() in recorded:
                    continue  # whole, or somebody else's
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
            with suppress(OSError):  # not empty, or not there
                (place / run.run).rmdir()
