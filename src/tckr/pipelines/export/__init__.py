"""The recycled set in the formats that other tools read."""

from tckr.pipelines.export.pipeline import create_pipeline

__all__ = ["create_pipeline"]
