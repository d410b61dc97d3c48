"""What got better, by how much, and whether it is real."""

from ragsmith.pipelines.evaluation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
