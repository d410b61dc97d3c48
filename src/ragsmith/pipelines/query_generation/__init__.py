"""Passages to queries that find them."""

from ragsmith.pipelines.query_generation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
