"""What every artefact was made from: one manifest per run, and the checks that keep two runs from mixing.

A run is one whole. A stage that runs alone reads all that it needs from one earlier run, its parent, and two artefacts
may only meet if they agree about every ancestor that they share.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tckr.disk import writing
from tckr.errors import UserError
from tckr.process import Process

VERSION = 1  # of the manifest's layout
SHOWN = 12  # hexadecimal digits of a hash in a message
BLOCK = 1 << 20
FOLDER = "runs"  # of the manifests, in the data folder
CLAIM = (
    ".claim"  # ends the name of a file that keeps a run's identifier from others until it begins
)
STAMP = "%Y-%m-%dT%H.%M.%S.%fZ"  # of run identifiers, which Kedro cuts to milliseconds


class Record(BaseModel):
    """Base of what a manifest consists of."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Ancestor(Record):
    """One version of a catalog entry."""

    run: str = Field(description="run that made it, which is also its version in the catalog")
    hash: str = Field(description="SHA-256 of its files")


class Artefact(Ancestor):
    """A version of a catalog entry with everything that it was made from."""

    entry: str = Field(description="name in the catalog")
    path: str = Field(description="where it lies, relative to the project")
    node: str = Field(description="node that made it")
    ancestors: dict[str, Ancestor] = Field(
        default={}, description="all artefacts that it was made from, directly or not, by entry"
    )
    settings: dict[str, str] = Field(
        default={}, description="parameter groups behind it and their fingerprints"
    )
    private_set: str | None = Field(
        default=None, description="data hash of the private set behind it"
    )


class Manifest(Record):
    """Everything known of one run."""

    version: int = VERSION
    run: str = Field(description="identifier of the run and version of its artefacts")
    pipeline: str = ""
    command: str = ""
    commit: str | None = Field(default=None, description="git commit of the project")
    changed: bool | None = Field(default=None, description="whether files differed from it")
    status: Literal["running", "finished", "failed", "killed"] = "running"
    process: Process | None = Field(default=None, description="that it runs, or ran, in")
    given: dict[str, Any] = Field(default={}, description="parameters of its command")
    nodes: list[str] = Field(default=[], description="all nodes of its pipeline, in order")
    code: str | None = Field(
        default=None, description="hash of tckr and of the libraries behind models"
    )
    resumes: str | None = Field(
        default=None, description="unfinished run whose artefacts it took up"
    )
    parent: str | None = Field(
        default=None, description="run whose artefacts this one started from"
    )
    sources: dict[str, str] = Field(default={}, description="unversioned inputs and their places")
    contents: dict[str, str] = Field(
        default={}, description="hash of names, sizes and times of the files of each such input"
    )
    used: dict[str, str] = Field(
        default={}, description="fingerprints of the groups its nodes read"
    )
    parameters: dict[str, Any] = Field(default={}, description="parameter groups by fingerprint")
    artefacts: dict[str, Artefact] = Field(default={}, description="what this run made or took up")
    inherited: dict[str, Artefact] = Field(
        default={}, description="what it could read of its parent"
    )
    seconds: dict[str, float] = Field(default={}, description="duration of each node")

    def view(self) -> dict[str, Artefact]:
        """Return the artefacts that stand for this run: its own, and those of its parent that still agree with them.

        >>> a = Artefact(entry="images", run="1", hash="x", path="", node="")
        >>> b = Artefact(entry="student", run="1", hash="s", path="", node="", ancestors={"images": a})
        >>> again = a.model_copy(update={"run": "2", "hash": "y"})
        >>> sorted(Manifest(run="2", artefacts={"images": again}, inherited={"images": a, "student": b}).view())
        ['images']
        """
        kept = {
            entry: artefact
            for entry, artefact in self.inherited.items()
            if entry not in self.artefacts
            and all(
                self.artefacts[name].hash == ancestor.hash
                for name, ancestor in artefact.ancestors.items()
                if name in self.artefacts
            )
        }
        return {**kept, **self.artefacts}


class Runs:
    """The manifests of a data folder, one file per run."""

    def __init__(self, folder: Path) -> None:
        """Args: folder: where `<run>.json` lies; it is made when the first run is saved."""
        self.folder = folder

    def save(self, manifest: Manifest) -> None:
        """Write a manifest whole or not at all."""
        target = self.folder / f"{manifest.run}.json"
        unfinished = self.folder / f".{manifest.run}-{uuid.uuid4().hex}"
        with writing(target):
            self._make()
            try:
                unfinished.write_text(manifest.model_dump_json(indent=1, exclude_defaults=True))
                os.replace(unfinished, target)
            finally:
                unfinished.unlink(missing_ok=True)

    def claim(self, run: str) -> str:
        """Return an identifier that no other run has: `run`, or one some milliseconds later.

        Whoever claims it gives it back with `release` once the run has ended; its manifest keeps the name from then on.

        >>> import tempfile
        >>> runs = Runs(Path(tempfile.mkdtemp()))
        >>> [runs.claim("2026-01-01T00.00.00.999Z") for _ in range(2)]
        ['2026-01-01T00.00.00.999Z', '2026-01-01T00.00.01.000Z']
        """
        with writing(self.folder / run):
            self._make()
            while not self._claimed(run):
                began = datetime.strptime(run, STAMP) + timedelta(milliseconds=1)
                run = f"{began.strftime(STAMP)[:-4]}Z"
        return run

    def _claimed(self, run: str) -> bool:
        if (self.folder / f"{run}.json").exists():
            return False
        try:
            file = (self.folder / f".{run}{CLAIM}").open("x")
        except FileExistsError:
            return False
        try:
            with file:
                file.write(Process.this().model_dump_json())
        except OSError:  # a full disk
            self.release(run)
            raise
        return True

    def release(self, run: str) -> None:
        """Give an identifier back."""
        (self.folder / f".{run}{CLAIM}").unlink(missing_ok=True)

    def mark_killed(self) -> list[Manifest]:
        """Mark as killed every run that still says it is running although its process is gone; return those.

        Runs that were killed before their first node have no manifest to mark, but are returned too. What such processes
        left half-written among the manifests is removed.
        """
        killed = {}
        for claim in self.folder.glob(f".*{CLAIM}"):
            with suppress(OSError, ValueError):
                if Process.model_validate_json(claim.read_text()).has_ended:
                    run = claim.name.removeprefix(".").removesuffix(CLAIM)
                    killed[run] = Manifest(run=run, status="killed")
                    claim.unlink()
        for manifest in self.newest_first():
            process = manifest.process
            if manifest.status == "running" and process is not None and process.has_ended:
                killed[manifest.run] = manifest.model_copy(update={"status": "killed"})
                self.save(killed[manifest.run])
            elif manifest.run in killed:  # it ended as it should, and was killed after that
                del killed[manifest.run]
        for run in killed:
            for file in self.folder.glob(f".{run}-*"):
                file.unlink(missing_ok=True)
        return list(killed.values())

    def _make(self) -> None:
        """Make the folder, for its owner alone: manifests name private files."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self.folder.mkdir(mode=0o700, exist_ok=True)

    def load(self, run: str) -> Manifest:
        """Read the manifest of a run.

        Raises:
            UserError: there is no such run, or its manifest is not readable.
        """
        file = self.folder / f"{run}.json"
        if not file.is_file():
            known = [manifest.run for manifest in self.newest_first()[:3]]
            raise UserError(
                f"There is no run {run} in {self.folder}.",
                f"name one of its runs ({', '.join(known) or 'there are none'}); each is a tag of its MLflow run.",
            )
        try:
            return Manifest.model_validate_json(file.read_text())
        except (OSError, ValidationError, ValueError) as error:
            raise UserError(
                f"{file} is not a readable manifest.", f"remove {file} and name another run."
            ) from error

    def newest_first(self) -> list[Manifest]:
        """Return every run that can be read, the newest first."""
        found = []
        for file in sorted(self.folder.glob("[!.]*.json"), reverse=True):
            try:
                found.append(Manifest.model_validate_json(file.read_text()))
            except (OSError, ValidationError, ValueError):
                continue  # written by another version or damaged: nothing can be inherited from it
        return found


def choose_parent(
    runs: Sequence[Manifest], needed: AbstractSet[str], project: Path, named: str | None = None
) -> Manifest:
    """Choose the one run from which a pipeline that starts in the middle takes all of its inputs.

    Without a name it is the newest run that holds everything. A run that came later and made one of the inputs
    differently leaves the choice open, and then nothing is chosen.

    Args:
        runs: newest first.
        needed: catalog entries that the pipeline starts from.
        project: folder to which the paths of artefacts are relative.
        named: the run that the user asked for.

    Raises:
        UserError: no run holds everything, the named one does not, or a later run disagrees.
    """
    views = {run.run: _existing(run.view(), project) for run in runs}
    if named is not None:
        chosen = next((run for run in runs if run.run == named), None)
        if chosen is None:
            raise UserError(
                f"There is no run {named}.",
                f"name one of {', '.join(run.run for run in runs[:3]) or 'no runs: there are none'}.",
            )
        _check_complete(chosen, views[named], needed)
        return chosen
    for place, run in enumerate(runs):
        view = views[run.run]
        if not needed <= view.keys():
            continue
        for later in runs[:place]:
            for entry in sorted(needed & later.artefacts.keys()):
                if later.artefacts[entry].hash != view[entry].hash:
                    raise _ambiguous(run, view, later, entry, needed)
        return run
    made_somewhere = {entry for run in runs for entry in views[run.run]}
    nowhere = sorted(needed - made_somewhere)
    if nowhere or not runs:
        entry = nowhere[0] if nowhere else sorted(needed)[0]
        raise UserError(
            f"This stage starts from {entry}, which no run has made yet.",
            f"run the stages before it too: kedro run --to-outputs={entry}, or a pipeline by name, or `make run`.",
        )
    _check_complete(runs[0], views[runs[0].run], needed)
    raise AssertionError("the newest run was complete after all")


def check_agreement(artefacts: Iterable[Artefact]) -> None:
    """Check that artefacts which are about to meet agree about every ancestor that they share.

    >>> old, new = (Ancestor(run=run, hash=run * 4) for run in "12")
    >>> kept = Artefact(entry="student", run="1", hash="s", path="", node="", ancestors={"images": old})
    >>> made = Artefact(entry="teacher", run="2", hash="t", path="", node="", ancestors={"images": new})
    >>> check_agreement([kept, made])
    Traceback (most recent call last):
        ...
    tckr.errors.UserError: student of run 1 and teacher of run 2 were made from different images (1111 of run 1 and \
2222 of run 2). Remedy: take both from one run: --params=parent=2, or --params=parent=1.

    Raises:
        UserError: two of them do not; names both, what differs, and the command that would agree.
    """
    for first, second in combinations(artefacts, 2):
        ours, theirs = _lineage(first), _lineage(second)
        for entry in sorted(ours.keys() & theirs.keys()):
            if ours[entry].hash != theirs[entry].hash:
                one, other = ours[entry], theirs[entry]
                newest = sorted({first.run, second.run}, reverse=True)
                raise UserError(
                    f"{first.entry} of run {first.run} and {second.entry} of run {second.run} were made from different"
                    f" {entry} ({one.hash[:SHOWN]} of run {one.run} and {other.hash[:SHOWN]} of run {other.run}).",
                    "take both from one run: "
                    + ", or ".join(f"--params=parent={run}" for run in newest)
                    + ".",
                )


def check_unchanged(artefact: Artefact, project: Path) -> None:
    """Check that an artefact's files are those that its run wrote.

    Raises:
        UserError: they were changed or removed since.
    """
    if not is_unchanged(artefact, project):
        raise UserError(
            f"{artefact.path} is no longer what run {artefact.run} wrote.",
            f"put the file back, or make it again: kedro run --to-outputs={artefact.entry}.",
        )


def is_unchanged(artefact: Artefact, project: Path) -> bool:
    """Whether an artefact's files are there, as its run wrote them."""
    path = project / artefact.path
    return path.exists() and hash_files(path) == artefact.hash


def seconds_behind(manifest: Manifest, others: Sequence[Manifest] = ()) -> dict[str, float]:
    """Return the seconds of work behind each artefact that stands for a run: of its node and of all before it.

    A node that made several of them counts once; what was taken up counts with the time that it took then.

    Args:
        manifest: of the run.
        others: of earlier runs, which made what this one inherited or took up.

    >>> a = Artefact(entry="images", run="1", hash="x", path="", node="ingest")
    >>> b = Artefact(entry="audit", run="2", hash="y", path="", node="attack", ancestors={"images": a})
    >>> first = Manifest(run="1", artefacts={"images": a}, seconds={"ingest": 20.0})
    >>> seconds_behind(Manifest(run="2", artefacts={"images": a, "audit": b}, seconds={"attack": 60.0}), [first])
    {'images': 20.0, 'audit': 80.0}
    """
    known = {run.run: run.seconds for run in (*others, manifest)}
    view = manifest.view()
    durations = {}
    for entry, made in view.items():
        behind = [made, *(view[name] for name in made.ancestors if name in view)]
        nodes = {(one.run, one.node) for one in behind}
        durations[entry] = sum(
            known.get(run, {}).get(node, manifest.seconds.get(node, 0.0)) for run, node in nodes
        )
    return durations


def hash_files(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and contents of all files in a folder."""
    digest = hashlib.sha256()
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    for file in files:
        if path.is_dir():
            digest.update(f"{file.relative_to(path).as_posix()}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as opened:
            while block := opened.read(BLOCK):
                digest.update(block)
    return digest.hexdigest()


def fingerprint(values: Any) -> str:
    """Return 16 hexadecimal digits that change with any value of a parameter group.

    >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1}) != fingerprint({"a": 2, "b": 2})
    True
    """
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _lineage(artefact: Artefact) -> Mapping[str, Ancestor]:
    return {**artefact.ancestors, artefact.entry: artefact}


def _existing(view: Mapping[str, Artefact], project: Path) -> dict[str, Artefact]:
    return {
        entry: artefact for entry, artefact in view.items() if (project / artefact.path).exists()
    }


def _check_complete(run: Manifest, view: Mapping[str, Artefact], needed: Collection[str]) -> None:
    missing = sorted(set(needed) - view.keys())
    if not missing:
        return
    entry = missing[0]
    remade = run.inherited.get(entry)
    why = "it did not make it"
    if remade is not None:
        new = [
            name
            for name, ancestor in remade.ancestors.items()
            if name in run.artefacts and run.artefacts[name].hash != ancestor.hash
        ]
        if new:
            why = f"that of run {remade.run} was made from another {new[0]}"
    raise UserError(
        f"Run {run.run} has no {entry}: {why}.",
        f"run the stages that make {', '.join(missing)} too, or name another run with --params=parent=<run>.",
    )


def _ambiguous(
    run: Manifest,
    view: Mapping[str, Artefact],
    later: Manifest,
    entry: str,
    needed: Collection[str],
) -> UserError:
    missing = sorted(set(needed) - later.view().keys())
    ours, theirs = view[entry], later.artefacts[entry]
    return UserError(
        f"Two runs could be meant: {later.run} made {entry} ({theirs.hash[:SHOWN]}) after run {run.run}"
        f" ({ours.hash[:SHOWN]}), but has no {missing[0]} made from it.",
        f"go on from the earlier one with --params=parent={run.run}, or run the stages that make"
        f" {', '.join(missing)} on the later one (--params=parent={later.run}).",
    )
