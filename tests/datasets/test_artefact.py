"""An artefact is stored by its type, one to a folder, in files that open without tckr."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from kedro.io import DataCatalog
from kedro.io.core import DatasetError
from safetensors.torch import load_file

from tckr.datasets.artefact import ArtefactDataset
from tckr.errors import UserError


@pytest.mark.parametrize(
    ("data", "file"),
    [
        (pd.DataFrame({"x": [1]}), "table.parquet"),
        ({"x": torch.zeros(2)}, "tensors.safetensors"),
        ({"x": 1}, "value.json"),
        ({}, "value.json"),
        ("text", "value.json"),
    ],
)
def test_each_type_has_its_file(data: Any, file: str, tmp_path: Path) -> None:
    ArtefactDataset(filepath=str(tmp_path / "entry")).save(data)
    assert [path.name for path in (tmp_path / "entry").iterdir()] == [file]


def test_files_open_without_tckr(tmp_path: Path) -> None:
    rows, votes = pd.DataFrame({"caption": ["a bag"]}), {"votes": torch.tensor([3, 0, 2])}
    for name, data in {"rows": rows, "votes": votes}.items():
        ArtefactDataset(filepath=str(tmp_path / name)).save(data)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "rows/table.parquet"), rows)
    assert torch.equal(load_file(tmp_path / "votes/tensors.safetensors")["votes"], votes["votes"])


@pytest.mark.parametrize(
    "data",
    [
        (1, 2),  # JSON would return a list
        [(1, 2)],
        {1: "a"},
        float("nan"),
        {"x": torch.zeros(1), "y": 1},
        {1: torch.zeros(1)},
        torch.zeros(1),
        {"a"},
        Path("x"),
    ],
    ids=repr,
)
def test_an_unknown_type_is_refused_and_the_entry_named(data: Any, tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as failure:
        ArtefactDataset(filepath=str(tmp_path / "entry")).save(data)
    assert isinstance(failure.value.__cause__, TypeError)
    assert str(tmp_path / "entry") in str(failure.value.__cause__)
    assert type(data).__name__ in str(failure.value.__cause__)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_none_or_several_is_refused(tmp_path: Path) -> None:
    dataset = ArtefactDataset(filepath=str(tmp_path / "entry"))
    (tmp_path / "entry").mkdir()
    for content in ("no artefact", "table.parquet and value.json"):
        with pytest.raises(DatasetError, match=f"holds {content}") as failure:
            dataset.load()
        assert isinstance(failure.value.__cause__, UserError)
        (tmp_path / "entry/table.parquet").touch()
        (tmp_path / "entry/value.json").touch()


def test_one_pattern_serves_every_arm(tmp_path: Path) -> None:
    catalog = DataCatalog.from_config(
        {
            "{arm}.{artefact}": {
                "type": "tckr.datasets.artefact.ArtefactDataset",
                "filepath": f"{tmp_path}/{{arm}}/{{artefact}}",
                "versioned": True,
            }
        }
    )
    catalog.save("spti.votes", {"bag": 3})
    assert catalog.load("spti.votes") == {"bag": 3}
    assert (tmp_path / "spti" / "votes").is_dir()
