"""Where and how work runs: shards, checkpoints, devices, seeds, progress."""

from tckr.engine.shards import ShardError, map_shards, stream_shards, visible_devices

__all__ = ["ShardError", "map_shards", "stream_shards", "visible_devices"]
