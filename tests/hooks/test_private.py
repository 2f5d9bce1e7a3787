"""What is private is its owner's alone; the release is not."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from kedro.io import DataCatalog
from kedro.io.core import Version
from kedro_datasets.json import JSONDataset
from kedro_datasets.pandas import ParquetDataset

from tckr.datasets.artefact import ArtefactDataset
from tckr.engine.scratch import scratch
from tckr.hooks.private import Private

VERSION = Version(None, "2026-01-01T00.00.00.000Z")


@pytest.fixture(params=[0o022, 0o027, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    """Return the permissions of all below a folder, by path."""
    return {
        str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode)
        for path in (folder, *folder.rglob("*"))
    }


def test_private_and_released_artefacts_of_every_kind_of_dataset(
    tmp_path: Path, umask: int
) -> None:
    data = tmp_path / "data"
    folder = {"filepath": str(data / "07_model_output/student"), "version": VERSION}
    catalog = DataCatalog(
        {
            "student": ArtefactDataset(**folder, metadata={"released": True}),
            "teacher": ArtefactDataset(filepath=str(data / "06_models/teacher"), version=VERSION),
            "vulnerability": ParquetDataset(
                filepath=str(data / "08_reporting/vulnerability.parquet"), version=VERSION
            ),
            "audit": JSONDataset(filepath=str(data / "08_reporting/audit.json"), version=VERSION),
        }
    )
    private = Private()
    private._data, private._top = data, tmp_path
    private.before_pipeline_run(catalog)
    table = pd.DataFrame({"rank": [1]})
    for name, value in {"student": table, "teacher": table, "vulnerability": table}.items():
        catalog.save(name, value)
        private.after_dataset_saved(name)
    catalog.save("audit", {})
    private.after_dataset_saved("audit")
    with scratch("work") as temporary:
        assert temporary.is_relative_to(data / "02_intermediate/scratch")
    private.after_pipeline_run()

    found = modes(data)
    released = {path: mode for path, mode in found.items() if "student" in path}
    to_it = {path: found[path] for path in (".", "07_model_output")}
    others = {path: found[path] for path in found.keys() - released.keys() - to_it.keys()}
    is_file = {path: (data / path).is_file() for path in found}
    assert {is_file[path] for path in released} == {True, False}
    for path, mode in (released | to_it).items():
        assert mode == (0o666 if is_file[path] else 0o777) & ~umask & 0o755, path
    assert len(others) > 6
    for path, mode in others.items():
        assert mode == (0o600 if is_file[path] else 0o700), path


def test_the_umask_is_given_back_however_the_run_ends(tmp_path: Path, umask: int) -> None:
    private = Private()
    private._data = tmp_path
    for end in (private.after_pipeline_run, private.on_pipeline_error, private.on_interrupt):
        private.before_pipeline_run(DataCatalog())
        end()
        now = os.umask(umask)
        assert now == umask
        assert "TCKR_SCRATCH" not in os.environ


def test_what_was_left_open_by_earlier_runs_is_closed(tmp_path: Path) -> None:
    entry = JSONDataset(filepath=str(tmp_path / "audit.json"), version=VERSION)
    older = tmp_path / "audit.json/2025-01-01T00.00.00.000Z"
    older.mkdir(parents=True)
    private = Private()
    private._data = tmp_path
    private.before_pipeline_run(DataCatalog({"audit": entry}))
    entry.save({})
    private.after_dataset_saved("audit")
    private.after_pipeline_run()

    assert stat.S_IMODE((tmp_path / "audit.json").stat().st_mode) == 0o700
