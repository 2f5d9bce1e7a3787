"""The stage `student_training`."""

from tckr.pipelines.student_training.pipeline import create_pipeline

__all__ = ["create_pipeline"]
