"""The stage `captioning`."""

from tckr.pipelines.captioning.pipeline import create_pipeline

__all__ = ["create_pipeline"]
