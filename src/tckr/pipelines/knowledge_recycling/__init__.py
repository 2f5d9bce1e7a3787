"""The stage `knowledge_recycling`."""

from tckr.pipelines.knowledge_recycling.pipeline import (
    create_generators_pipeline,
    create_pipeline,
    create_teacher_pipeline,
)

__all__ = ["create_generators_pipeline", "create_pipeline", "create_teacher_pipeline"]
