"""Freed memory stays with the process, and what is free is what the container has left."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from tckr.engine import memory
from tckr.engine.memory import free_memory, keep_freed_memory

PROBE = """
import ctypes, resource, sys
if sys.argv[1] == "kept":
    from tckr.engine.memory import keep_freed_memory
    assert keep_freed_memory()
c = ctypes.CDLL(None)
c.malloc.restype, c.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def round_trip():
    block = c.malloc(64 << 20)
    ctypes.memset(block, 1, 64 << 20)
    c.free(block)
round_trip()
before = faults()
for _ in range(5):
    round_trip()
print(faults() - before)
"""


def _faults(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, how], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(not keep_freed_memory(), reason="needs glibc")
def test_memory_that_comes_back_is_not_faulted_in_again() -> None:
    # `-c` imports tckr only when told to, so that the other process shows the default
    assert _faults("kept") < 0.1 * _faults("default")


MIB = 1 << 20


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty tree of control groups on a machine with 1000 MiB free."""
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(memory, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000 * MIB))
    return tmp_path / "groups"


def write(folder: Path, **files: int | str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name.replace("__", ".")).write_text(f"{value}\n")


def belongs_to(groups: Path, *lines: str) -> None:
    (groups.parent / "own").write_text("\n".join(lines) + "\n")


def test_without_control_groups_the_machine_decides(groups: Path) -> None:
    assert free_memory() == 1000 * MIB


def test_a_limit_of_cgroup_2_counts_what_is_used_without_the_page_cache(groups: Path) -> None:
    belongs_to(groups, "0::/")
    write(groups, memory__max=500 * MIB, memory__current=400 * MIB)
    assert free_memory() == 100 * MIB
    write(groups, memory__stat=f"anon 1\ninactive_file {200 * MIB}\nactive_file {50 * MIB}")
    assert free_memory() == 350 * MIB
    write(groups, memory__max="max")
    assert free_memory() == 1000 * MIB
    write(groups, memory__max=100 * MIB)
    assert free_memory() == 0


def test_the_narrowest_group_above_the_process_decides(groups: Path) -> None:
    belongs_to(groups, "0::/jobs/one/step")
    write(groups / "jobs", memory__max=300 * MIB, memory__current=0)
    write(groups / "jobs/one", memory__max=200 * MIB, memory__current=80 * MIB)
    write(groups / "jobs/one/step", memory__max="max", memory__current=10 * MIB)
    write(groups / "jobs/other", memory__max=1, memory__current=0)
    assert free_memory() == 120 * MIB


def test_a_limit_of_cgroup_1(groups: Path) -> None:
    belongs_to(groups, "5:cpu,cpuacct:/x", "4:memory:/docker/abc", "0::/")
    limits = {"memory__limit_in_bytes": 500 * MIB, "memory__usage_in_bytes": 450 * MIB}
    write(groups / "memory", **limits)  # the container sees its own group as the root
    write(groups / "memory", memory__stat=f"inactive_file 1\ntotal_inactive_file {100 * MIB}")
    assert free_memory() == 150 * MIB
    write(groups / "memory", memory__limit_in_bytes=9223372036854771712)  # no limit
    assert free_memory() == 1000 * MIB
