"""Hard negatives for the training queries."""

from ragsmith.pipelines.negative_mining.pipeline import create_pipeline

__all__ = ["create_pipeline"]
