"""Sources to passages, splits and gold questions."""

from ragsmith.pipelines.data_collection.pipeline import create_pipeline

__all__ = ["create_pipeline"]
