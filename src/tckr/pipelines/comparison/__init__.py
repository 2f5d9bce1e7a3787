"""The stage `comparison`."""

from tckr.pipelines.comparison.pipeline import create_pipeline

__all__ = ["create_pipeline"]
