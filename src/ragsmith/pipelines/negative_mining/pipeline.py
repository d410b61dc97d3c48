"""Wiring of negative_mining."""

from kedro.pipeline import Node, Pipeline

from ragsmith.pipelines.negative_mining.nodes import mine


def create_pipeline() -> Pipeline:
    """Queries and base index → hard negatives and their audit."""
    return Pipeline(
        [
            Node(
                mine,
                [
                    "queries",
                    "qrels",
                    "passages",
                    "splits",
                    "base_encoder",
                    "base_index",
                    "params:negative_mining",
                    "params:compute",
                ],
                ["mined", "mining_report"],
                name="mine_negatives",
            )
        ],
        tags=["negative_mining"],
    )
