"""A Ray cluster of nodes that are processes of this machine, for tests."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Read by Ray when it is imported: no address but the loopback is opened, and nothing is reported to anybody.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
NODE = {"num_cpus": 1, "object_store_memory": 80 << 20, "node_ip_address": "127.0.0.1"}


@contextmanager
def ray_cluster(nodes: int = 2) -> Iterator[Any]:
    """Start so many nodes of one core each beside a head without any, and end all of them with the block.

    Without Ray, the tests that ask for it are skipped.
    """
    import pytest

    pytest.importorskip("ray", reason="needs Ray: pip install 'tckr[ray]'")
    from ray.cluster_utils import Cluster

    head = {**NODE, "num_cpus": 0, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        cluster.workers = [cluster.add_node(**NODE) for _ in range(nodes)]
        yield cluster
    finally:
        cluster.shutdown()
