"""The stage `cardinality_sweep`."""

from tckr.pipelines.cardinality_sweep.pipeline import create_pipeline

__all__ = ["create_pipeline"]
