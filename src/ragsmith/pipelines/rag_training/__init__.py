"""The reader, trained on what the retriever finds."""

from ragsmith.pipelines.rag_training.pipeline import create_pipeline

__all__ = ["create_pipeline"]
