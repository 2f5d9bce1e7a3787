"""The stage `generator_choice`."""

from tckr.pipelines.generator_choice.pipeline import create_pipeline

__all__ = ["create_pipeline"]
