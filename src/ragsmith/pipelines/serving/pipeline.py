"""Wiring of serving."""

from kedro.pipeline import Node, Pipeline

from ragsmith.pipelines.serving.nodes import check_bundle, make_bundle


def create_pipeline() -> Pipeline:
    """Evaluated parts → bundle → one question asked of it."""
    return Pipeline(
        [
            Node(
                make_bundle,
                [
                    "rag_retriever",
                    "rag_index",
                    "reader",
                    "passages",
                    "search_choice",
                    "metrics",
                    "params:serving",
                    "bundle_work",
                ],
                "bundle",
                name="make_bundle",
            ),
            Node(
                check_bundle,
                ["bundle", "queries", "params:serving", "params:compute"],
                "bundle_check",
                name="check_bundle",
            ),
        ],
        tags=["serving"],
    )
