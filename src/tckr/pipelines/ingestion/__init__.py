"""The stage `ingestion`."""

from tckr.pipelines.ingestion.pipeline import create_pipeline

__all__ = ["create_pipeline"]
