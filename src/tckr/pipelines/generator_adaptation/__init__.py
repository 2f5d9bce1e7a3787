"""The stage `generator_adaptation`."""

from tckr.pipelines.generator_adaptation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
