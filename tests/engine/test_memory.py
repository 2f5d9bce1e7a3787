"""Freed memory stays with the process."""

import subprocess
import sys

import pytest

from tckr.engine.memory import keep_freed_memory

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
