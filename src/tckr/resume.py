"""Take up what an unfinished run left whole; make again only what is missing or no longer agrees.

A node is taken up if everything it made is whole and was made from what is there today: the same parameters, the same
raw files, and inputs that are taken up themselves. Otherwise it runs again, and so does all that depends on it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tckr.errors import UserError
from tckr.lineage import Artefact, Manifest
from tckr.options import recipe

LAST = "last"


class NothingToResume(Exception):  # noqa: N818 - nothing went wrong
    """A run starts from the beginning although it was asked to resume; the message says why."""


@dataclass(frozen=True)
class Work:
    """A node as far as resuming is concerned.

    Attributes:
        name: of the node.
        inputs: catalog entries that it reads, without parameters.
        groups: parameter groups that it reads.
        outputs: catalog entries that it makes.
        kept: whether a finished run leaves its result as it was: all outputs are versioned files, and it reads nothing
            that is of its own run alone, as the report does.
    """

    name: str
    inputs: tuple[str, ...]
    groups: tuple[str, ...]
    outputs: tuple[str, ...]
    kept: bool = True


@dataclass(frozen=True)
class Today:
    """What a node would be made from if it ran now.

    Attributes:
        used: fingerprint of each parameter group.
        parameters: values of the groups by fingerprint.
        contents: state of the raw files behind each unversioned input.
        inherited: inputs from the parent run.
    """

    used: Mapping[str, str]
    parameters: Mapping[str, Any]
    contents: Mapping[str, str]
    inherited: Mapping[str, Artefact]


@dataclass(frozen=True)
class Resumption:
    """What is taken up of which run.

    Attributes:
        run: the unfinished run.
        taken: its artefacts that stand for this run too, by entry.
        remade: reasons for which finished nodes run again, by node.
        unfinished: nodes whose outputs it did not leave.
    """

    run: Manifest
    taken: Mapping[str, Artefact]
    remade: Mapping[str, str]
    unfinished: tuple[str, ...]

    def describe(self) -> Iterator[str]:
        """Yield the lines of the plan that say what is taken up and what is made again."""
        run = self.run
        ended = "was last seen running elsewhere" if run.status == "running" else run.status
        yield f"resumes run {run.run} ({ended}): takes up {', '.join(self.taken)}"
        for node, why in self.remade.items():
            yield f"made again: {node}, because {why}"
        if self.unfinished:
            yield f"goes on with {self.unfinished[0]}"

    def stand(self, manifest: Manifest) -> Manifest:
        """Return the manifest of a new run that stands on what is taken up."""
        marks = {mark for one in self.taken.values() for mark in one.settings.values()}
        nodes = {one.node for one in self.taken.values()}
        before = self.run.parameters
        return manifest.model_copy(
            update={
                "resumes": self.run.run,
                "artefacts": dict(self.taken),
                "parameters": {mark: before[mark] for mark in marks} | manifest.parameters,
                "seconds": {node: s for node, s in self.run.seconds.items() if node in nodes},
            }
        )


def choose_unfinished(
    runs: Sequence[Manifest], nodes: Sequence[str], given: Mapping[str, Any], code: str
) -> Manifest:
    """Choose the run that `resume=last` means: the newest unfinished one of the same nodes and the same code.

    One of the very same command goes before newer ones of other parameters. A run that was resumed already is left out:
    the run that resumed it holds everything that it made.

    Args:
        runs: newest first.
        nodes: of the pipeline that is to run.
        given: parameters of the command.
        code: hash of today's code.

    Raises:
        NothingToResume: there is none.
    """
    resumed = {(run.resumes, _key(run.given)) for run in runs}
    found, other_code = [], ""
    for run in runs:
        alive = run.status == "running" and run.process is not None and run.process.is_here
        if run.status == "finished" or alive or run.nodes != list(nodes):
            continue
        if (run.run, _key(run.given)) in resumed:
            continue
        if run.code != code:
            other_code = other_code or (
                f" (run {run.run} is unfinished, but was made by other code: {_commit(run)})"
            )
            continue
        found.append(run)
    same = [run for run in found if _key(run.given) == _key(given)]
    if not found:
        raise NothingToResume(f"no unfinished run of these stages to resume{other_code}")
    return (same or found)[0]


def check_can_be_resumed(run: Manifest, code: str) -> None:
    """Check that a run that the user named can be taken up.

    Raises:
        UserError: it is still running, or other code made it.
    """
    if run.status == "running" and run.process is not None and run.process.is_here:
        raise UserError(
            f"Run {run.run} is still running, in process {run.process.number}.",
            "wait for it, or end that process first.",
        )
    if run.code != code:
        raise UserError(
            f"Run {run.run} was made by other code than today's ({_commit(run)}).",
            f"go back to that code, or start from single artefacts of the run with --params=parent={run.run}"
            " and --from-nodes=<node>.",
        )


def take_up(
    run: Manifest, works: Sequence[Work], today: Today, is_whole: Callable[[Artefact], bool]
) -> Resumption:
    """Decide what of an unfinished run stands and what is made again.

    Args:
        run: the unfinished run.
        works: every node of the pipeline, each after those whose outputs it reads.
        today: what they would be made from now.
        is_whole: whether an artefact's files are those that its run wrote.

    Raises:
        NothingToResume: none of it stands.
        UserError: the run is finished, and all of it stands.
    """
    taken: dict[str, Artefact] = {}
    remade: dict[str, str] = {}
    unfinished: list[str] = []
    makers = {entry: work.name for work in works for entry in work.outputs}
    for work in works:
        made = {entry: run.artefacts[entry] for entry in work.outputs if entry in run.artefacts}
        if not work.kept:
            continue
        if len(made) < len(work.outputs) or any(one.node != work.name for one in made.values()):
            unfinished.append(work.name)
            continue
        why = next(_disagreements(run, work, made, today, taken, makers, is_whole), None)
        if why is None:
            taken |= made
        else:
            remade[work.name] = why
    if run.status == "finished" and not (remade or unfinished):
        raise UserError(
            f"Run {run.run} is finished, and nothing that it was made from has changed.",
            "leave out resume to run it again, or change a parameter.",
        )
    if not taken:
        why = next(iter(remade.values()), "it finished no stage")
        raise NothingToResume(f"nothing of run {run.run} can be taken up ({why})")
    return Resumption(run, taken, remade, tuple(unfinished))


def _disagreements(
    run: Manifest,
    work: Work,
    made: Mapping[str, Artefact],
    today: Today,
    taken: Mapping[str, Artefact],
    makers: Mapping[str, str],
    is_whole: Callable[[Artefact], bool],
) -> Iterator[str]:
    """Yield the reasons for which what a node made cannot stand."""
    for group in work.groups:
        for one in made.values():
            before, now = one.settings.get(group, ""), today.used[group]
            if before != now:
                yield from _changed(group, run.parameters.get(before), today.parameters[now])
    for entry in work.inputs:
        if entry in makers and entry not in taken:
            yield f"{entry} is made again"
        elif entry in today.contents and run.contents.get(entry) != today.contents[entry]:
            yield f"the files of {entry} have changed"
        else:
            known = taken.get(entry) or today.inherited.get(entry)
            for one in made.values():
                ancestor = one.ancestors.get(entry)
                if known is not None and (ancestor is None or ancestor.hash != known.hash):
                    yield f"it was made from another {entry}"
    for one in made.values():
        if not is_whole(one):
            yield f"{one.path} is no longer what run {one.run} wrote"


def _changed(group: str, before: Any, now: Any) -> Iterator[str]:
    """Name the parameters of a group that differ, but for those of speed."""
    old, new = recipe({group: before}), recipe({group: now})
    for key in dict.fromkeys([*new, *old]):
        if not (key in old and key in new and old[key] == new[key]):
            yield f"{key} = {new.get(key)} (it was {old.get(key)})"


def _key(given: Mapping[str, Any]) -> str:
    return repr(sorted((name, repr(value)) for name, value in given.items()))


def _commit(run: Manifest) -> str:
    if run.commit is None:
        return "commit unknown"
    return f"commit {run.commit[:12]}{' with uncommitted changes' if run.changed else ''}"
