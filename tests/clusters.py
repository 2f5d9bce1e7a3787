"""A Ray cluster whose nodes are processes of this machine, and an object store of this machine, for tests."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

# Read by Ray when it is imported: no address but the loopback is opened, and nothing is reported to anybody.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_worker_niceness", "0")  # workers would wait for whatever else runs here
LOOPBACK = "127.0.0.1"
NODE = {"num_cpus": 1, "object_store_memory": 80 << 20, "node_ip_address": LOOPBACK}
BUCKET = "tckr"


@contextmanager
def ray_cluster(nodes: int = 2) -> Iterator[Any]:
    """Start so many nodes of one core each beside a head without any, and end all of them with the block.

    Without Ray, the tests that ask for it are skipped.
    """
    pytest.importorskip("ray", reason="needs Ray: pip install 'tckr[ray]'")
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        add_node(cluster, num_cpus=0, include_dashboard=False)
        for _ in range(nodes):
            add_node(cluster)
        yield cluster
    finally:
        cluster.shutdown()


def add_node(cluster: Any, **settings: Any) -> Any:
    """Start a node of one core and return it; Ray gives up after 30 seconds, which a busy machine may need."""
    for left in (2, 1, 0):
        try:
            return cluster.add_node(**{**NODE, **settings})
        except Exception as error:
            if not left or "timed out during startup" not in str(error):
                raise
    raise AssertionError


@contextmanager
def s3_server() -> Iterator[str]:
    """Start an S3 server and yield the URL of a bucket; this process and those it starts find it by their environment."""
    for package in ("moto", "s3fs", "upath"):
        pytest.importorskip(package, reason="needs an S3 server: pip install 'tckr[dev]'")
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address=LOOPBACK, port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    access = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "test")
    where = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
    with pytest.MonkeyPatch.context() as environment:
        for name, value in (access | where).items():
            environment.setenv(name, value)
        s3fs.S3FileSystem().mkdir(BUCKET)
        yield f"s3://{BUCKET}"
    server.stop()
