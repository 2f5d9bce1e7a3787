"""Every way of the storage benchmark keeps images and reads them."""

from pathlib import Path

import pytest
from benchmarks.storage import SHOWN, WAYS, Images, _measured

from tckr.datasets import image_table


@pytest.mark.parametrize("way", WAYS)
def test_every_way_is_measured(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(image_table, "GROUP_BYTES", image_table.GROUP_BYTES)  # set back afterwards
    row = _measured(way, Images(50, 8, 3))
    assert row.keys() == SHOWN.keys()
    assert row["gib"] * 2**30 >= 50 * 8 * 8 * 3
    assert list(tmp_path.iterdir()) == []
