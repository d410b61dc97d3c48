"""Wiring of rag_training."""

from kedro.pipeline import Node, Pipeline

from ragsmith.pipelines.rag_training.nodes import plot_training, retrieve_for_reader, train


def create_pipeline() -> Pipeline:
    """Tuned retriever → passages for training questions → reader."""
    params = ["params:rag_training", "params:compute"]
    return Pipeline(
        [
            Node(
                retrieve_for_reader,
                ["retriever", "index", "queries", "passages", "search_choice", *params],
                "reader_run",
                name="retrieve_for_reader",
            ),
            Node(
                train,
                ["base_reader", "queries", "qrels", "answers", "passages", "reader_run", *params, "reader_work"],
                ["reader", "reader_report", "reader_log"],
                name="train_reader",
            ),
            Node(plot_training, "reader_log", "reader_plot", name="plot_reader_training"),
        ],
        tags=["rag_training"],
    )
