"""Wiring of data_collection."""

from kedro.pipeline import Node, Pipeline

from ragsmith.pipelines.data_collection.nodes import (
    collect_documents,
    gather_examples,
    gather_gold,
    make_passages,
    split,
)


def create_pipeline() -> Pipeline:
    """Sources → documents → passages → gold questions → splits."""
    params = "params:data_collection"
    return Pipeline(
        [
            Node(
                collect_documents,
                ["source_folder", params],
                ["documents", "collection_report"],
                name="collect_documents",
            ),
            Node(
                make_passages, ["documents", "base_encoder", params], ["passages", "duplicates"], name="make_passages"
            ),
            Node(gather_gold, ["questions_folder", "passages", params], ["gold", "gold_report"], name="gather_gold"),
            Node(split, ["documents", "gold", params], "splits", name="split_documents"),
            Node(
                gather_examples,
                ["examples_folder", "passages", "splits", "gold", params],
                ["examples", "examples_report"],
                name="gather_examples",
            ),
        ],
        tags=["data_collection"],
    )
