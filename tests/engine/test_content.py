"""The name of a piece of work changes with whatever it is made from, and with nothing else."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tckr.engine.content import content_hash, source_state


@dataclass(frozen=True)
class Weights:
    weights: dict[str, torch.Tensor]


VALUES: list[Any] = [
    None,
    0,
    0.0,
    False,
    "0",
    b"0",
    [],
    {},
    ["a", "b"],
    ["ab"],
    [["a"], "b"],
    {"a": 1, "b": 2},
    {"a": 2, "b": 1},
    torch.zeros(2, 3),
    torch.zeros(3, 2),
    torch.zeros(2, 3, dtype=torch.float64),
    torch.zeros(2, 3, dtype=torch.bfloat16),
    torch.ones(2, 3),
    torch.tensor(1.0),
    torch.zeros(0, 3),
    np.zeros((2, 3)),
    Weights({"a": torch.zeros(2)}),
    Weights({"a": torch.ones(2)}),
    pd.DataFrame({"prompt": ["a", "b"], "label": [0, 1]}),
    pd.DataFrame({"prompt": ["b", "a"], "label": [1, 0]}),
    pd.DataFrame({"label": [0, 1], "prompt": ["a", "b"]}),
]


def test_other_values_have_other_names() -> None:
    assert len({content_hash(value) for value in VALUES}) == len(VALUES)
    assert content_hash("a", "b") != content_hash("ab") != content_hash(["a", "b"])


def test_equal_values_have_equal_names() -> None:
    view = torch.arange(6).reshape(2, 3).T
    assert content_hash(view) == content_hash(view.clone())
    assert content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    table = pd.DataFrame({"x": [0.5, 1.5]})
    assert content_hash(table) == content_hash(table.set_index(pd.Index([7, 8])))
    assert content_hash(np.float64(0.5)) == content_hash(0.5)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(TypeError, match="object"):
        content_hash([object()])
    with pytest.raises(TypeError, match="ndarray"):
        content_hash(np.array([object()]))


def test_a_model_replaced_in_its_folder_is_another(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet/model.safetensors").write_bytes(b"one")
    before = source_state(str(tmp_path))
    assert source_state(str(tmp_path)) == before
    (tmp_path / "unet/model.safetensors").write_bytes(b"three")
    assert source_state(str(tmp_path)) != before
    assert source_state("hub/name") == ["hub/name"]
