"""How the shipped miniatures were made."""

from tckr.pipelines.foundation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
