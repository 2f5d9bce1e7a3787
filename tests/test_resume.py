"""What an unfinished run left whole is taken up; what no longer agrees is made again, and the plan says why."""

import pytest

from tckr.errors import UserError
from tckr.lineage import Ancestor, Artefact, Manifest, fingerprint
from tckr.process import Process
from tckr.resume import (
    NothingToResume,
    Today,
    Work,
    check_can_be_resumed,
    choose_unfinished,
    take_up,
)

WORKS = (
    Work("ingest", ("raw_images",), ("ingestion", "seed"), ("images", "ingestion_report")),
    Work("teach", ("images",), ("classifier", "seed"), ("teacher",)),
    Work("caption", ("images",), ("captioning",), ("captions",)),
    Work("draw", ("captions", "images"), ("seed",), ("drawn",)),
    Work("label", ("drawn", "teacher"), (), ("recycled",)),
    Work("write_report", ("recycled", "parameters"), (), ("report",), kept=False),
)
NODES = [work.name for work in WORKS]
GROUPS = {
    "ingestion": {"size": 16},
    "classifier": {"epochs": 2},
    "captioning": {"max_new_tokens": 4},
    "seed": 0,
}


def today(contents: str = "files", **changed: object) -> Today:
    groups = {**GROUPS, **changed}
    marks = {name: fingerprint(values) for name, values in groups.items()}
    return Today(
        marks, {marks[name]: groups[name] for name in groups}, {"raw_images": contents}, {}
    )


def made(*entries: str, run: str = "1") -> dict[str, Artefact]:
    """What a run made, up to and including the last of these entries, with the lineage that the hook records."""
    found: dict[str, Artefact] = {}
    used = today().used
    for work in WORKS:
        inputs = [found[name] for name in work.inputs if name in found]
        for entry in work.outputs:
            if entry not in entries:
                continue
            found[entry] = Artefact(
                entry=entry,
                run=run,
                hash=f"hash of {entry}",
                path=f"data/{entry}/{run}",
                node=work.name,
                ancestors={
                    name: known
                    for one in inputs
                    for name, known in {
                        **one.ancestors,
                        one.entry: Ancestor(run=one.run, hash=one.hash),
                    }.items()
                },
                settings={
                    **{group: mark for one in inputs for group, mark in one.settings.items()},
                    **{group: used[group] for group in work.groups},
                },
            )
    return found


def unfinished(*entries: str, run: str = "1", **facts: object) -> Manifest:
    return Manifest(
        run=run,
        nodes=NODES,
        code="code",
        artefacts=made(*entries, run=run),
        parameters=dict(today().parameters),
        contents={"raw_images": "files"},
        used=dict(today().used),
        **{"status": "killed", **facts},
    )


BEFORE_DRAWING = ("images", "ingestion_report", "teacher", "captions")
ALL = (*BEFORE_DRAWING, "drawn", "recycled", "report")


def test_all_that_is_whole_is_taken_up() -> None:
    found = take_up(unfinished(*BEFORE_DRAWING), WORKS, today(), lambda _: True)

    assert set(found.taken) == set(BEFORE_DRAWING)
    assert found.remade == {}
    assert found.unfinished == ("draw", "label")
    assert list(found.describe()) == [
        "resumes run 1 (killed): takes up images, ingestion_report, teacher, captions",
        "goes on with draw",
    ]


def test_the_new_run_stands_on_what_is_taken_up() -> None:
    before = unfinished(*BEFORE_DRAWING, seconds={"ingest": 3.0, "draw": 9.0})
    found = take_up(before, WORKS, today(), lambda _: True)
    manifest = found.stand(Manifest(run="2", used=dict(today().used)))

    assert manifest.resumes == "1"
    assert {one.run for one in manifest.view().values()} == {"1"}
    assert manifest.seconds == {"ingest": 3.0}
    marks = {mark for one in manifest.artefacts.values() for mark in one.settings.values()}
    assert marks <= manifest.parameters.keys()


def test_a_changed_parameter_redoes_its_node_and_what_depends_on_it() -> None:
    found = take_up(unfinished(*ALL), WORKS, today(classifier={"epochs": 3}), lambda _: True)

    assert set(found.taken) == {"images", "ingestion_report", "captions", "drawn"}
    assert found.remade == {
        "teach": "classifier.epochs = 3 (it was 2)",
        "label": "teacher is made again",
    }
    assert "made again: teach, because classifier.epochs = 3 (it was 2)" in found.describe()


def test_a_setting_of_speed_redoes_nothing() -> None:
    """The natural answers to a run that was killed for want of memory."""
    before = unfinished(*BEFORE_DRAWING)
    slower = {"max_new_tokens": 4, "batch_size": 1, "checkpoints": "elsewhere"}
    assert not take_up(before, WORKS, today(captioning=slower), lambda _: True).remade
    other = take_up(before, WORKS, today(classifier={"epochs": 2, "batch_size": 1}), lambda _: True)
    assert other.remade["teach"] == "classifier.batch_size = 1 (it was None)"


def test_a_node_that_left_only_half_its_outputs_is_made_again() -> None:
    with pytest.raises(NothingToResume, match="it finished no stage"):
        take_up(unfinished("images"), WORKS, today(), lambda _: True)


def test_changed_raw_files_redo_everything() -> None:
    with pytest.raises(NothingToResume, match="the files of raw_images have changed"):
        take_up(unfinished(*ALL), WORKS, today(contents="one more"), lambda _: True)


def test_a_damaged_artefact_is_not_taken() -> None:
    found = take_up(unfinished(*ALL), WORKS, today(), lambda one: one.entry != "captions")

    assert found.remade["caption"] == "data/captions/1 is no longer what run 1 wrote"
    assert set(found.taken) == {"images", "ingestion_report", "teacher"}


def test_what_was_made_from_another_version_is_made_again() -> None:
    mixed = made(*BEFORE_DRAWING)
    mixed["images"] = mixed["images"].model_copy(update={"hash": "other images"})
    before = unfinished().model_copy(update={"artefacts": mixed})
    found = take_up(before, WORKS, today(), lambda _: True)

    assert found.remade["teach"] == "it was made from another images"


def test_an_input_of_the_parent_has_to_be_the_same() -> None:
    stage = WORKS[1:3]
    before = unfinished("images", "teacher", "captions")
    here = {"images": before.artefacts["images"]}
    whole = take_up(
        before,
        stage,
        Today(today().used, today().parameters, {}, here),
        lambda _: True,
    )
    assert set(whole.taken) == {"teacher", "captions"}
    other = {"images": here["images"].model_copy(update={"hash": "x"})}
    with pytest.raises(NothingToResume, match="made from another images"):
        take_up(before, stage, Today(today().used, today().parameters, {}, other), lambda _: True)


def test_resuming_a_finished_run_is_refused_unless_something_changed() -> None:
    done = unfinished(*ALL, status="finished")
    with pytest.raises(UserError, match="Run 1 is finished, and nothing"):
        take_up(done, WORKS, today(), lambda _: True)
    assert take_up(done, WORKS, today(captioning={"max_new_tokens": 5}), lambda _: True).remade


def test_last_is_the_newest_unfinished_run_of_the_same_stages_and_code() -> None:
    older, newer = unfinished(run="1"), unfinished(run="2", status="failed")
    assert choose_unfinished([newer, older], NODES, {}, "code") == newer
    for other in (
        unfinished(run="3", status="finished"),
        unfinished(run="3").model_copy(update={"nodes": ["ingest"]}),
        unfinished(run="3").model_copy(update={"code": "newer code"}),
        unfinished(run="3", status="running", process=Process.this()),
    ):
        assert choose_unfinished([other, newer, older], NODES, {}, "code") == newer


def test_the_same_command_goes_before_newer_ones() -> None:
    first = unfinished(run="1", given={"seed": "0"})
    second = unfinished(run="2", given={"seed": "1"})
    assert choose_unfinished([second, first], NODES, {"seed": "0"}, "code") == first
    assert choose_unfinished([second, first], NODES, {"seed": "2"}, "code") == second


def test_a_run_is_resumed_once() -> None:
    first = unfinished(run="1")
    again = unfinished(run="2", resumes="1")
    assert choose_unfinished([again, first], NODES, {}, "code") == again
    done = unfinished(run="2", resumes="1", status="finished")
    with pytest.raises(NothingToResume, match="no unfinished run of these stages"):
        choose_unfinished([done, first], NODES, {}, "code")
    # A run of other parameters that began from it leaves it to its own command.
    aside = unfinished(run="2", resumes="1", given={"seed": "1"}, status="finished")
    assert choose_unfinished([aside, first], NODES, {}, "code") == first


def test_other_code_is_named() -> None:
    old = unfinished(run="1", commit="0123456789abcdef", changed=True)
    with pytest.raises(NothingToResume, match="other code: commit 0123456789ab with uncommitted"):
        choose_unfinished([old], NODES, {}, "newer code")
    with pytest.raises(UserError, match=r"made by other code .*parent=1"):
        check_can_be_resumed(old, "newer code")


def test_a_run_that_goes_on_is_not_resumed() -> None:
    here = unfinished(run="1", status="running", process=Process.this())
    with pytest.raises(UserError, match="still running"):
        check_can_be_resumed(here, "code")
    elsewhere = Process.this().model_copy(update={"host": "another machine"})
    there = unfinished(run="1", status="running", process=elsewhere)
    check_can_be_resumed(there, "code")
    assert choose_unfinished([there], NODES, {}, "code") == there
