"""What has changed since a run was killed is noticed; what it left half-written goes, and nothing else."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kedro.io import DataCatalog
from kedro.io.core import Version
from kedro.pipeline import Node, Pipeline

from tckr.datasets.whole import JSONDataset
from tckr.errors import UserError
from tckr.hooks.unfinished import remove_leftovers, state_of, works_of
from tckr.lineage import Artefact, Manifest

RUN = "2026-01-01T00.00.00.000Z"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "1.png").write_bytes(b"pixels")
    return tmp_path / "photos"


def test_a_folder_changes_with_every_file(photos: Path) -> None:
    data = photos.parent / "data"
    states = [state_of(photos, data)]
    assert state_of(photos, data) == states[0]
    (photos / "dog/2.png").write_bytes(b"pixels")
    states.append(state_of(photos, data))
    (photos / "dog/2.png").write_bytes(b"other pixels")
    states.append(state_of(photos, data))
    os.utime(photos / "dog/2.png", ns=(1, 1))
    states.append(state_of(photos, data))
    (photos / "dog").rename(photos / "wolf")
    states.append(state_of(photos, data))
    assert len(set(states)) == len(states)


def test_links_are_followed_once(photos: Path) -> None:
    outside = photos.parent / "elsewhere"
    outside.mkdir()
    (photos / "owl").symlink_to(outside)
    (outside / "round").symlink_to(photos)
    before = state_of(photos, photos.parent / "data")
    (outside / "1.png").write_bytes(b"pixels")
    assert state_of(photos, photos.parent / "data") != before


def test_a_list_changes_with_the_images_beside_it_but_not_with_the_runs_own(photos: Path) -> None:
    project = photos.parent
    (project / "data").mkdir()
    labels = project / "labels.csv"
    labels.write_text("path,label\nphotos/cat/1.png,cat\n")
    before = state_of(labels, project / "data")
    (project / "data/sheet.png").write_bytes(b"made by a run")
    (project / "mlflow.db").write_bytes(b"")
    assert state_of(labels, project / "data") == before
    (photos / "cat/1.png").write_bytes(b"other pixels")
    assert state_of(labels, project / "data") != before


def test_only_what_no_manifest_tells_of_is_removed(tmp_path: Path) -> None:
    """A killed run left a whole artefact, a half one, one that it had not recorded, and a user's own note."""
    places = {name: tmp_path / "data" / name for name in ("whole", "half", "unrecorded", "noted")}
    for place in places.values():
        (place / RUN).mkdir(parents=True)
        (place / "older").mkdir()
        (place / "older" / place.name).write_text("of another run")
    (places["whole"] / RUN / "whole").write_text("{}")
    (places["half"] / RUN / ".half-0c5f").mkdir()
    (places["half"] / RUN / ".half-0c5f/part").write_text("{")
    (places["unrecorded"] / RUN / "unrecorded").write_text("{}")
    (places["noted"] / RUN / "note.txt").write_text("precious")
    known = Artefact(entry="whole", run=RUN, hash="", path=f"data/whole/{RUN}/whole", node="make")
    killed = Manifest(run=RUN, status="killed", artefacts={"whole": known})

    datasets = [SimpleNamespace(_filepath=place) for place in places.values()]
    remove_leftovers([killed], datasets, tmp_path)

    left = {str(p.relative_to(tmp_path / "data")) for p in tmp_path.glob(f"data/*/{RUN}/*")}
    assert left == {f"whole/{RUN}/whole", f"noted/{RUN}/note.txt"}
    assert not (places["half"] / RUN).exists()
    assert all((place / "older" / place.name).exists() for place in places.values())


def echo(value: Any) -> Any:
    return value


def test_nodes_are_seen_with_what_decides_about_them(tmp_path: Path) -> None:
    catalog = DataCatalog(
        {
            name: JSONDataset(filepath=str(tmp_path / name), version=Version(None, None))
            for name in ("images", "report")
        }
    )
    nodes = [
        Node(lambda raw, options: raw, ["raw", "params:ingestion"], "images", name="ingest"),
        Node(lambda images, lineage: images, ["images", "lineage"], "report", name="write_report"),
        Node(echo, "images", "in_memory", name="count"),
    ]
    works = {work.name: work for work in works_of(Pipeline(nodes), {"images", "report"}, catalog)}

    assert works["ingest"].groups == ("ingestion",)
    assert works["ingest"].inputs == ("raw",)
    assert {name: work.kept for name, work in works.items()} == {
        "ingest": True,
        "write_report": False,  # it names its run
        "count": False,  # nothing of it is left on disk
    }


def test_files_without_versions_cannot_be_resumed_by_name(tmp_path: Path) -> None:
    catalog = DataCatalog({"model": JSONDataset(filepath=str(tmp_path / "model"))})
    with pytest.raises(UserError, match="model has no versions"):
        works_of(Pipeline([Node(echo, "raw", "model", name="train")]), set(), catalog)
