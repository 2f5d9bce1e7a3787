"""The same command on a cluster: the same artefacts to the byte, whatever dies on the way."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clusters import add_node
from conftest import start_kedro
from tckr.engine import EngineOptions, use_engine
from tckr.lineage import Manifest, Runs, hash_files

DATA = "data/test"
# Many shards of every kind, and each of some length.
SETTINGS = "knowledge_recycling.sampling.batch_size=6,knowledge_recycling.sampling.steps=12,captioning.shard=16,captioning.batch_size=16,privacy_audit.attribution=false"  # fmt: skip
COMMAND = ("run", "--env=test", "--pipeline=knowledge_recycling")
COMPARED = (
    "captions", "adapter", "synthetic_images", "recycled_set", "teacher", "student", "membership_matrix", "metrics",
)  # fmt: skip


def finish(process: Any) -> str:
    output, errors = process.communicate(timeout=1500)
    assert process.returncode == 0, output + errors
    return output + errors


def start_on(cluster: Any, project: Path, more: str = "") -> Any:
    """Start the run on a cluster; what is known of the shards of earlier ones is forgotten."""
    for log in (project / DATA / "runs").glob("*.shards.jsonl"):
        log.unlink()
    engine = f"engine.kind=ray,engine.address={cluster.address}"
    return start_kedro(project, *COMMAND, f"--params={SETTINGS},{engine}{more}")


def records(project: Path, stage: str) -> list[dict[str, Any]]:
    """Return what is known by now of the shards of a stage in the newest run."""
    logs = sorted((project / DATA / "runs").glob("*.shards.jsonl"))
    lines = logs[-1].read_text().splitlines() if logs else []
    found = [json.loads(line) for line in lines if line.endswith("}")]
    return [record for record in found if record["stage"] == stage]


def first_record(project: Path, stage: str, process: Any) -> dict[str, Any]:
    """Wait for the first shard of a stage on a cluster."""
    before = time.monotonic()
    while not (found := records(project, stage)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() - before < 1200, f"no {stage} in time"
        time.sleep(0.05)
    return found[0]


def content(project: Path, manifest: Manifest, entry: str) -> str:
    return hash_files(project / manifest.view()[entry].path)


@pytest.fixture(scope="module")
def here(project: Path) -> Manifest:
    """A run on this machine alone."""
    finish(start_kedro(project, *COMMAND, f"--params={SETTINGS}"))
    return Runs(project / DATA / "runs").newest_first()[0]


def check_same(project: Path, here: Manifest) -> None:
    """Check that the newest run made what another one made."""
    newest = Runs(project / DATA / "runs").newest_first()[0]
    assert newest.run != here.run
    for entry in COMPARED:
        assert content(project, newest, entry) == content(project, here, entry), entry


def test_a_cluster_that_loses_a_worker_and_a_node_makes_what_one_machine_makes(
    inside: Path, here: Manifest, cluster: Any
):
    doomed = add_node(cluster)
    process = start_on(cluster, inside)
    os.kill(first_record(inside, "synthetic images", process)["process"], signal.SIGKILL)
    first_record(inside, "shadow groups", process)
    cluster.remove_node(doomed, allow_graceful=False)
    said = finish(process)

    assert f"3 workers of 1 core on 1 host(s) of the Ray cluster {cluster.address}" in said
    check_same(inside, here)
    for stage in ("captions", "synthetic images", "shadow groups"):
        found = records(inside, stage)
        assert len(found) > 2
        assert process.pid not in {record["process"] for record in found}
    drawn = records(inside, "synthetic images")
    assert len(drawn) == len({record["shard"] for record in drawn}) == 10  # each once
    assert sum(record["tries"] - 1 for record in drawn) <= 1  # but for the one under way
    assert not list((inside / DATA / "02_intermediate/shards").glob("*"))  # nothing is left


def test_an_object_store_takes_the_place_of_a_shared_folder(
    inside: Path, here: Manifest, cluster: Any, bucket: str
):
    import s3fs

    kept = f"captioning.checkpoints={bucket}/captions,privacy_audit.checkpoints={bucket}/audit"
    process = start_on(cluster, inside, f",engine.storage={bucket}/shards,{kept}")
    first_record(inside, "shadow groups", process)
    store = s3fs.S3FileSystem(use_listings_cache=False)
    assert store.find(f"{bucket}/audit")  # by whoever trained the shadow
    finish(process)
    check_same(inside, here)
    assert store.find(bucket) == []  # nothing is left


@pytest.mark.slow
def test_a_cluster_is_started_for_a_run_on_the_loopback_address_alone(tmp_path: Path):
    pytest.importorskip("ray", reason="needs Ray: pip install 'tckr[ray]'")
    import psutil
    import ray

    with use_engine(EngineOptions(kind="ray", address="local", storage=str(tmp_path))) as told:
        assert "host" in told
        mine = psutil.Process().children(recursive=True)
        opened = {
            connection.laddr.ip.removeprefix("::ffff:")
            for child in mine
            for connection in child.net_connections()
            if connection.status == psutil.CONN_LISTEN
        }
        assert mine
        assert opened == {"127.0.0.1"}
    assert not ray.is_initialized()


def test_a_missing_cluster_is_one_line(inside: Path, kedro: Callable[..., Any]):
    pytest.importorskip("ray", reason="needs Ray: pip install 'tckr[ray]'")
    done = kedro("run", "--env=test", "--params=engine.kind=ray,engine.address=127.0.0.1:1")
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert "There is no Ray cluster at engine.address=127.0.0.1:1" in line
