"""The stage `knowledge_recycling`."""

from tckr.pipelines.knowledge_recycling.pipeline import create_pipeline, create_teacher_pipeline

__all__ = ["create_pipeline", "create_teacher_pipeline"]
