"""Whether a release is what was written."""

from tckr.pipelines.verify_release.pipeline import create_pipeline

__all__ = ["create_pipeline"]
