"""The tuned retriever, the gate and its index."""

from ragsmith.pipelines.retriever_training.pipeline import create_pipeline

__all__ = ["create_pipeline"]
