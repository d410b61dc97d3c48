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
                ["source_folder", "records_folder", params],
                ["documents", "record_passages", "record_questions", "collection_report"],
                name="collect_documents",
            ),
            Node(
                make_passages,
                ["documents", "record_passages", "base_encoder", params],
                ["passages", "duplicates"],
                name="make_passages",
            ),
            Node(
                gather_gold,
                ["questions_folder", "record_questions", "passages", "duplicates", params],
                ["gold", "divided_records", "gold_report"],
                name="gather_gold",
            ),
            Node(split, ["documents", "gold", params], "splits", name="split_documents"),
            Node(
                gather_examples,
                ["examples_folder", "divided_records", "passages", "splits", "gold", params],
                ["examples", "given_negatives", "positive_scores", "examples_report"],
                name="gather_examples",
            ),
        ],
        tags=["data_collection"],
    )
