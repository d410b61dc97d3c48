"""One bundle that is what was evaluated."""

from ragsmith.pipelines.serving.pipeline import create_pipeline

__all__ = ["create_pipeline"]
