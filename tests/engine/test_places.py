"""Folders and URLs, used alike."""

from pathlib import Path

import pytest
import torch

from tckr.engine.checkpoint import Checkpoints
from tckr.engine.exchange import exchange, leave, receive, send
from tckr.engine.places import listed, place, remove_tree
from tckr.engine.rows import Shared
from tckr.errors import UserError


@pytest.fixture(params=["folder", "memory", "s3"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place of each kind."""
    if request.param == "folder":
        return str(tmp_path)
    if request.param == "memory":
        pytest.importorskip("upath", reason="needs universal-pathlib: pip install 'tckr[storage]'")
        return f"memory://{tmp_path.name}"
    return f"{request.getfixturevalue('bucket')}/{tmp_path.name}"


def test_checkpoints_are_found_and_removed(where: str):
    checkpoints = Checkpoints(place(where) / "work")
    first = checkpoints.of("first")
    assert first.load({"a": 1}) is None
    assert checkpoints.parts() == set()
    first.save({"a": 1}, {"x": torch.arange(3)})
    saved = first.load({"a": 1})
    assert saved is not None
    assert torch.equal(saved["x"], torch.arange(3))
    assert checkpoints.parts() == {"first"}
    with pytest.raises(UserError, match="another recipe"):
        first.load({"a": 2})
    checkpoints.remove()
    assert checkpoints.parts() == set()


def test_work_is_sent_with_its_tensors_beside_it(where: str):
    large = torch.arange(100_000, dtype=torch.int32).view(1000, 100)
    shared = Shared(large)
    with exchange(where) as folder:
        sent = send(folder, {"one": shared, "again": shared})
        assert sorted(path.name for path in listed(folder, "*")) == ["tensor-0", "work.pickle"]
        assert len((folder / "work.pickle").read_bytes()) < 1000
        received = receive(sent)
        assert torch.equal(received["one"], large)
        assert received["one"] is received["again"]
        (folder / "work.pickle").write_bytes(b"something else")
        with pytest.raises(UserError, match="not what was written there"):
            receive(sent)
    leave(where)
    assert listed(place(where), "*") == []


def test_a_tree_is_removed_and_one_that_is_not_there_too(where: str):
    folder = place(where) / "tree"
    Checkpoints(folder / "below").of("x").save({}, {"x": 1})
    remove_tree(folder)
    remove_tree(folder)
    assert Checkpoints(folder / "below").parts() == set()


def test_a_url_that_nothing_reads_is_one_line():
    pytest.importorskip("upath")
    with pytest.raises(UserError, match="s9://x cannot be opened"):
        place("s9://x")
