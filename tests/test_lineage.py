"""Two runs never mix: their artefacts, their settings, their figures."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tckr.errors import UserError
from tckr.lineage import (
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
from tckr.process import Process


def artefact(entry: str, run: str, content: str, project: Path, *parents: Artefact) -> Artefact:
    """An artefact whose file lies in the project."""
    path = project / entry / run
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    ancestors: dict[str, Ancestor] = {}
    for parent in parents:
        ancestors |= parent.ancestors | {parent.entry: Ancestor(run=parent.run, hash=parent.hash)}
    return Artefact(
        entry=entry,
        run=run,
        hash=hash_files(path),
        path=str(path.relative_to(project)),
        node="make",
        ancestors=ancestors,
    )


def run(
    name: str, *made: Artefact, parent: Manifest | None = None, status: str = "finished"
) -> Manifest:
    inherited = {} if parent is None else parent.view()
    return Manifest(
        run=name,
        status=status,
        artefacts={one.entry: one for one in made},
        inherited=inherited,
        parent=parent.run if parent else None,
    )


@pytest.fixture
def first(tmp_path: Path) -> Manifest:
    """A whole run: images -> teacher -> student."""
    images = artefact("images", "1", "cats", tmp_path)
    teacher = artefact("teacher", "1", "knows cats", tmp_path, images)
    return run("1", images, teacher, artefact("student", "1", "learnt", tmp_path, teacher))


def test_the_last_run_that_has_everything_is_the_parent(first: Manifest, tmp_path: Path) -> None:
    again = run("2", *(one.model_copy(update={"run": "2"}) for one in first.artefacts.values()))

    assert choose_parent([again, first], {"images", "student"}, tmp_path).run == "2"
    assert choose_parent([again, first], {"images"}, tmp_path, named="1").run == "1"


def test_a_later_run_of_other_images_leaves_the_choice_open(
    first: Manifest, tmp_path: Path
) -> None:
    """cases/files/o03: ingest another set, then audit the models of the first."""
    other = run("2", artefact("images", "2", "dogs", tmp_path))

    with pytest.raises(UserError) as error:
        choose_parent([other, first], {"images", "student"}, tmp_path)

    for said in (
        "images",
        other.artefacts["images"].hash[:12],
        first.artefacts["images"].hash[:12],
        "parent=1",
    ):
        assert said in str(error.value)
    assert choose_parent([other, first], {"images", "student"}, tmp_path, named="1") == first


def test_the_same_images_made_again_change_nothing(first: Manifest, tmp_path: Path) -> None:
    again = run("2", artefact("images", "2", "cats", tmp_path))
    assert choose_parent([again, first], {"images", "student"}, tmp_path).run == "1"


def test_a_killed_run_counts_too(first: Manifest, tmp_path: Path) -> None:
    killed = run("2", artefact("images", "2", "dogs", tmp_path), status="running")
    with pytest.raises(UserError, match="Two runs could be meant"):
        choose_parent([killed, first], {"images", "student"}, tmp_path)


def test_what_was_made_from_something_remade_is_no_longer_part_of_the_run(
    first: Manifest, tmp_path: Path
) -> None:
    second = run(
        "2",
        artefact("teacher", "2", "knows better", tmp_path, first.artefacts["images"]),
        parent=first,
    )

    assert set(second.view()) == {"images", "teacher"}
    with pytest.raises(UserError, match="Two runs could be meant"):
        choose_parent([second, first], {"teacher", "student"}, tmp_path)
    with pytest.raises(
        UserError, match="Run 2 has no student: that of run 1 was made from another teacher"
    ):
        choose_parent([second, first], {"teacher", "student"}, tmp_path, named="2")


def test_a_run_inherits_over_generations(first: Manifest, tmp_path: Path) -> None:
    student = artefact("student", "2", "hard", tmp_path, first.artefacts["teacher"])
    second = run("2", student, parent=first)
    third = run("3", artefact("audit", "3", "50", tmp_path, student), parent=second)

    found = third.view()
    assert {entry: one.run for entry, one in found.items()} == {
        "images": "1", "teacher": "1", "student": "2", "audit": "3",
    }  # fmt: skip
    check_agreement(found.values())


def test_what_no_run_has_made_is_named(first: Manifest, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="starts from audit, which no run has made yet"):
        choose_parent([first], {"audit"}, tmp_path)
    with pytest.raises(UserError, match="starts from images, which no run has made yet"):
        choose_parent([], {"images"}, tmp_path)
    with pytest.raises(UserError, match="There is no run 9"):
        choose_parent([first], {"images"}, tmp_path, named="9")


def test_artefacts_of_different_images_do_not_meet(first: Manifest, tmp_path: Path) -> None:
    dogs = artefact("images", "2", "dogs", tmp_path)
    teacher = artefact("teacher", "2", "knows dogs", tmp_path, dogs)

    with pytest.raises(
        UserError, match=r"student of run 1 and teacher of run 2 .* different images"
    ):
        check_agreement([first.artefacts["student"], teacher])
    check_agreement(first.artefacts.values())


def test_a_file_that_was_changed_is_refused(first: Manifest, tmp_path: Path) -> None:
    images = first.artefacts["images"]
    check_unchanged(images, tmp_path)
    (tmp_path / images.path).write_text("retouched")
    with pytest.raises(UserError, match="no longer what run 1 wrote"):
        check_unchanged(images, tmp_path)


def test_a_folder_is_hashed_by_names_and_contents(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name / "x").mkdir(parents=True)
    (tmp_path / "a/x/one").write_text("1")
    (tmp_path / "b/x/one").write_text("1")
    (tmp_path / "c/x/two").write_text("1")

    hashes = [hash_files(tmp_path / name) for name in ("a", "b", "c")]
    assert hashes[0] == hashes[1] != hashes[2]


def test_manifests_come_back_newest_first_and_broken_ones_are_left_out(
    first: Manifest, tmp_path: Path
) -> None:
    runs = Runs(tmp_path / "runs")
    for manifest in (first, run("2")):
        runs.save(manifest)
    (tmp_path / "runs/3.json").write_text("{")

    assert [one.run for one in runs.newest_first()] == ["2", "1"]
    assert runs.load("1") == first
    with pytest.raises(UserError, match="not a readable manifest"):
        runs.load("3")
    with pytest.raises(UserError, match=r"There is no run 4 .*2, 1"):
        runs.load("4")


def gone() -> Process:
    """A process that has ended, and whose number has gone to another since."""
    return Process.this().model_copy(update={"since": 0.0})


def test_identifiers_are_unique_however_many_runs_start_at_once(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs")
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(runs.claim, ["2026-01-01T00.00.00.999Z"] * 16))
    assert len(set(names)) == 16
    runs.save(run("2026-01-01T00.00.02.000Z"))
    assert runs.claim("2026-01-01T00.00.02.000Z") == "2026-01-01T00.00.02.001Z"
    for name in names:
        runs.release(name)
    assert runs.claim(names[0]) == names[0]


def test_runs_whose_process_is_gone_are_marked_as_killed(first: Manifest, tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs")
    facts = {"status": "running"}
    dead = first.model_copy(update={"run": "2", "process": gone(), **facts})
    alive = first.model_copy(update={"run": "3", "process": Process.this(), **facts})
    elsewhere = Process.this().model_copy(update={"host": "another machine"})
    far = first.model_copy(update={"run": "4", "process": elsewhere, **facts})
    container = gone().model_copy(update={"namespace": 1})  # of the same host name
    beside = first.model_copy(update={"run": "6", "process": container, **facts})
    for manifest in (first, dead, alive, far, beside):
        runs.save(manifest)
    (tmp_path / "runs/.2-0c5f").write_text("half a manifest")
    before = gone().model_dump_json()
    (tmp_path / "runs/.5.claim").write_text(before)  # killed before its first node
    (tmp_path / "runs/.1.claim").write_text(before)  # killed as it ended

    assert {one.run for one in runs.mark_killed()} == {"2", "5"}
    status = {one.run: one.status for one in runs.newest_first()}
    assert status == {"1": "finished", "2": "killed", **dict.fromkeys("346", "running")}
    assert runs.load("2").artefacts == first.artefacts
    assert not list((tmp_path / "runs").glob(".*"))
    assert runs.mark_killed() == []


def test_work_counts_once_however_many_artefacts_and_runs_it_stands_behind(tmp_path: Path) -> None:
    def by(node: str, made: Artefact) -> Artefact:
        return made.model_copy(update={"node": node})

    images = by("ingest", artefact("images", "1", "cats", tmp_path))
    report = by("ingest", artefact("ingestion_report", "1", "5 cats", tmp_path))
    teacher = by("teach", artefact("teacher", "1", "knows", tmp_path, images, report))
    killed = run("1", images, report, teacher, status="killed").model_copy(
        update={"seconds": {"ingest": 10.0, "teach": 20.0, "half": 99.0}}
    )
    audit = by("attack", artefact("audit", "2", "55 %", tmp_path, teacher))
    # What a run takes up it holds itself, with the run that made it; so does one that goes on from a parent.
    resumed = run("2", images, report, teacher, audit).model_copy(
        update={"seconds": {"ingest": 10.0, "teach": 20.0, "attack": 60.0}}
    )
    alone = run("3", parent=resumed)

    assert seconds_behind(resumed, [killed])["audit"] == 90.0
    assert seconds_behind(resumed)["audit"] == 90.0  # the killed run's manifest is gone
    assert seconds_behind(alone, [resumed, killed])["audit"] == 90.0
    assert seconds_behind(resumed, [killed])["images"] == 10.0
