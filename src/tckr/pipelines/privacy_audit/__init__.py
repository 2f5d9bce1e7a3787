"""The stage `privacy_audit`."""

from tckr.pipelines.privacy_audit.pipeline import create_pipeline

__all__ = ["create_pipeline"]
