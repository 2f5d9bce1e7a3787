"""Temporary files are private and end with their process."""

import os
import stat
import subprocess
import sys
from pathlib import Path

from tckr.engine import map_shards
from tckr.engine.scratch import scratch, sweep, use_folder

SCRIPT = """
import os, sys, time
from pathlib import Path
from tckr.engine import map_shards
from tckr.engine.scratch import use_folder
from tckr.process import Process

def linger(shard, pixels):
    print(Process.this().name, flush=True)
    time.sleep(60)

if __name__ == "__main__":
    with use_folder(Path(sys.argv[1])):
        map_shards(linger, [0, 1], 2, shared=b"private")
"""


def modes(_: int, __: str) -> list[tuple[str, int]]:
    """Name and permissions of all that lies in the scratch folder of this worker's run."""
    folder = Path(os.environ["TCKR_SCRATCH"])
    return [(path.name, stat.S_IMODE(path.stat().st_mode)) for path in sorted(folder.rglob("*"))]


def test_what_workers_read_is_their_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        with use_folder(tmp_path):
            found, _ = map_shards(modes, [0, 1], 2, shared="private")
    finally:
        os.umask(before)

    assert found[0][0].startswith("tckr-shards-")
    assert [mode for _, mode in found] == [0o700, 0o600]
    assert found[1][0] == "work.pickle"
    assert not list(tmp_path.iterdir())


def test_a_killed_process_leaves_nothing_behind_for_long(tmp_path: Path) -> None:
    script, place, system = (tmp_path / name for name in ("script.py", "scratch", "system"))
    script.write_text(SCRIPT)
    system.mkdir()
    environment = {**os.environ, "TMPDIR": str(system)}
    command = [sys.executable, str(script), str(place)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    parent.stdout.readline()  # a worker has read its work
    parent.kill()
    parent.wait()

    assert [path.name for path in place.rglob("*.pickle")] == ["work.pickle"]
    assert not list(system.rglob("*.pickle"))
    sweep(place)
    assert not list(place.iterdir())


def test_what_the_living_use_is_left_alone(tmp_path: Path) -> None:
    elsewhere = tmp_path / "another-host_1_2_3.00"
    elsewhere.mkdir()
    with use_folder(tmp_path), scratch("work") as folder:
        sweep(tmp_path)
        assert folder.is_dir()
    assert list(tmp_path.iterdir()) == [elsewhere]
