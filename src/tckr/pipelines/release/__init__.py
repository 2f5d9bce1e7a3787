"""What may go out of an earlier run, with its certificate and its manifest."""

from tckr.pipelines.release.pipeline import create_pipeline

__all__ = ["create_pipeline"]
