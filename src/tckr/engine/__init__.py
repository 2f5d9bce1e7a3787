"""Where and how work runs: shards, checkpoints, devices, seeds, progress."""

from tckr.engine.options import EngineOptions
from tckr.engine.shards import (
    ShardError,
    cut,
    durable,
    map_shards,
    resolve_workers,
    slots,
    stream_shards,
    use_engine,
    visible_devices,
)

__all__ = [
    "EngineOptions",
    "ShardError",
    "cut",
    "durable",
    "map_shards",
    "resolve_workers",
    "slots",
    "stream_shards",
    "use_engine",
    "visible_devices",
]
