"""Wiring of negative_mining."""

from kedro.pipeline import Node, Pipeline

from ragsmith.pipelines.negative_mining.nodes import mine


def create_pipeline() -> Pipeline:
    """Queries and base index → hard negatives, with report, samples and figure."""
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
                    "base_reranker",
                    "candidate_pool",
                    "given_negatives",
                    "positive_scores",
                    "mining_work",
                    "params:negative_mining",
                    "params:compute",
                ],
                ["mined", "mining_settings", "mining_report", "mining_audit", "mining_figure"],
                name="mine_negatives",
            )
        ],
        tags=["negative_mining"],
    )
