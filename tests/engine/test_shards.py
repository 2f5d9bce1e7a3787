"""Shards of work in processes of this machine; `test_engines.py` asks what holds on every engine."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tckr.engine import ShardError, map_shards, stream_shards, visible_devices
from tckr.engine.shards import AHEAD


def process_of(_: int) -> int:
    return os.getpid()


def bar_setting(_: int) -> str | None:
    return os.environ.get("TCKR_PROGRESS")


def dies(shard: int) -> int:
    if shard == 1:
        os._exit(9)
    return shard


def test_environment_is_left_as_it_was():
    before = dict(os.environ)
    map_shards(process_of, [1, 2], 2)
    assert dict(os.environ) == before


def test_one_worker_is_this_process():
    assert map_shards(process_of, [1, 2], 1) == [os.getpid()] * 2


@pytest.mark.parametrize("workers", [1, 2])
def test_no_bars_inside_the_bar(workers: int):
    assert map_shards(bar_setting, [1, 2], workers) == ["0", "0"]


def device_of(shard: int) -> tuple[str, int]:
    time.sleep(0.5)
    return os.environ.get("CUDA_VISIBLE_DEVICES", ""), os.getpid()


def device_at_start(shard: int) -> str:
    time.sleep(0.5)
    variables = Path("/proc/self/environ").read_bytes().split(b"\0")
    return next((v.decode() for v in variables if v.startswith(b"CUDA_VISIBLE_DEVICES=")), "")


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc")
def test_a_device_is_set_before_the_process_starts():
    # Not by the worker: the main program, which it imports first, may have asked CUDA for its devices by then.
    found = map_shards(device_at_start, list(range(4)), devices=["0", "GPU-b7"])
    assert set(found) == {"CUDA_VISIBLE_DEVICES=0", "CUDA_VISIBLE_DEVICES=GPU-b7"}


def test_each_device_has_a_process_of_its_own():
    found = map_shards(device_of, list(range(6)), devices=["0", "GPU-b7"])
    by_process = {process: device for device, process in found}
    assert sorted(by_process.values()) == ["0", "GPU-b7"]
    assert all(by_process[process] == device for device, process in found)
    assert os.environ.get("CUDA_VISIBLE_DEVICES", "") not in ("0", "GPU-b7")


def test_devices_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_devices() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-b7")
    assert visible_devices() == ["3", "GPU-b7"]


def test_no_shards():
    assert map_shards(process_of, [], 2) == []


def test_dead_worker_is_an_error():
    with pytest.raises(ShardError, match="died") as failure:
        map_shards(dies, [0, 1, 2], 2, "shadows")
    from tckr.cli import explain  # not for every worker, which imports this file

    assert "died in shadows, probably out of memory. Remedy: lower" in str(explain(failure.value))


def test_refuses_no_workers():
    with pytest.raises(ValueError, match="at least 1"):
        map_shards(process_of, [1], 0)


SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from tckr.engine import map_shards
from tckr.interrupt import unwinding

def linger(shard, folder):
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(60)

if __name__ == "__main__":
    # A job that a shell put into the background starts with interrupts ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with unwinding():
        map_shards(linger, [0, 1, 2], 2, shared=sys.argv[1])
"""


def alive(pid: int) -> bool:
    """Whether `pid` runs (a zombie that nobody reaped does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(not Path("/proc").exists(), reason="reads /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_no_orphans(tmp_path: Path, how: signal.Signals):
    script, pids = tmp_path / "script.py", tmp_path / "pids"
    script.write_text(SCRIPT)
    pids.mkdir()
    parent = subprocess.Popen([sys.executable, script, pids], stderr=subprocess.DEVNULL)
    wait_for(lambda: len(list(pids.iterdir())) == 2)
    workers = [int(path.name) for path in pids.iterdir()]
    parent.send_signal(how)
    parent.wait(10)
    wait_for(lambda: not any(map(alive, workers)))


def wait_for(condition, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.1)


def begun(shard: int, folder: Path) -> int:
    (folder / str(shard)).touch()
    return shard


def test_workers_stay_a_few_shards_ahead_of_a_slow_reader(tmp_path: Path) -> None:
    count, workers = 60, 2
    read = 0
    for result in stream_shards(begun, range(count), workers, shared=tmp_path):
        assert result == read
        read += 1
        if read == 1:
            time.sleep(1)  # time enough to begin all of them
            assert len(list(tmp_path.iterdir())) <= AHEAD * workers
        assert len(list(tmp_path.iterdir())) <= read - 1 + AHEAD * workers
    assert read == count


def test_a_mapping_waits_for_no_reader(tmp_path: Path) -> None:
    # The first shard ends last; all others are begun meanwhile.
    assert map_shards(first_waits, range(30), 2, shared=tmp_path) == [29, *range(1, 30)]


def first_waits(shard: int, folder: Path) -> int:
    (folder / str(shard)).touch()
    while shard == 0 and len(list(folder.iterdir())) < 30:
        time.sleep(0.02)
    return shard or 29


def test_bars_of_workers_leave_no_semaphore_behind(tmp_path: Path):
    program = tmp_path / "program.py"
    program.write_text(
        "from tqdm import tqdm\n"
        "from tckr.engine import map_shards\n"
        "def work(shard): return sum(tqdm([shard]))\n"
        "if __name__ == '__main__': print(map_shards(work, [1, 2, 3], 2))\n"
    )
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True)
    assert done.stdout == "[1, 2, 3]\n"
    assert "leaked" not in done.stderr
