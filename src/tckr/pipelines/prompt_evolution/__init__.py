"""The stage `prompt_evolution`."""

from tckr.pipelines.prompt_evolution.pipeline import create_pipeline

__all__ = ["create_pipeline"]
