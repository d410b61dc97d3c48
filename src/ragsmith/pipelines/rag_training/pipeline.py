"""Wiring of rag_training."""

from kedro.pipeline import Node, Pipeline

from ragsmith.pipelines.rag_training.nodes import plot_training, retrieve_dev, train


def create_pipeline() -> Pipeline:
    """Tuned retriever → reader, and the retriever and index that belong to it → what they find for dev questions."""
    params = ["params:rag_training", "params:compute"]
    return Pipeline(
        [
            Node(
                train,
                [
                    "base_reader",
                    "base_encoder",
                    "base_index",
                    "retriever",
                    "index",
                    "queries",
                    "qrels",
                    "answers",
                    "passages",
                    "search_choice",
                    *params,
                    "reader_work",
                ],
                ["reader", "rag_retriever", "rag_index", "reader_report", "reader_log"],
                name="train_reader",
            ),
            Node(
                retrieve_dev,
                ["rag_retriever", "rag_index", "queries", "passages", "search_choice", *params],
                "dev_run",
                name="retrieve_dev",
            ),
            Node(plot_training, "reader_log", "reader_plot", name="plot_reader_training"),
        ],
        tags=["rag_training"],
    )
