"""Wiring of query_generation."""

from kedro.pipeline import Node, Pipeline

from ragsmith.pipelines.query_generation.nodes import filter_queries, generate, index_base


def create_pipeline() -> Pipeline:
    """Passages → base index, structural queries → round trip → queries, qrels, answers."""
    params = "params:query_generation"
    return Pipeline(
        [
            Node(
                index_base,
                ["base_encoder", "passages", "params:index", "params:compute", "base_index_work"],
                "base_index",
                name="index_base",
            ),
            Node(
                generate,
                ["passages", "splits", "gold", "examples", params],
                "generated_queries",
                name="generate_queries",
            ),
            Node(
                filter_queries,
                [
                    "generated_queries",
                    "examples",
                    "gold",
                    "splits",
                    "passages",
                    "base_encoder",
                    "base_index",
                    params,
                    "params:compute",
                ],
                ["queries", "qrels", "answers", "removed_queries", "query_report"],
                name="filter_queries",
            ),
        ],
        tags=["query_generation"],
    )
