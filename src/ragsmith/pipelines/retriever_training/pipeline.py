"""Wiring of retriever_training."""

from kedro.pipeline import Node, Pipeline

from ragsmith.pipelines.retriever_training.nodes import choose_search, index_tuned, plot_training, train


def create_pipeline() -> Pipeline:
    """Mined queries → tuned retriever, gate, index → how to search."""
    return Pipeline(
        [
            Node(
                train,
                [
                    "base_encoder",
                    "base_index",
                    "queries",
                    "qrels",
                    "mined",
                    "mining_settings",
                    "passages",
                    "splits",
                    "base_reranker",
                    "candidate_pool",
                    "given_negatives",
                    "positive_scores",
                    "params:retriever_training",
                    "params:compute",
                    "retriever_work",
                ],
                ["retriever", "retriever_report", "retriever_log"],
                name="train_retriever",
            ),
            Node(plot_training, "retriever_log", "retriever_plot", name="plot_retriever_training"),
            Node(
                index_tuned,
                ["retriever", "passages", "params:index", "params:compute", "index_work"],
                "index",
                name="index_tuned",
            ),
            Node(
                choose_search,
                ["retriever", "index", "queries", "qrels", "passages", "params:compute"],
                "search_choice",
                name="choose_search",
            ),
        ],
        tags=["retriever_training"],
    )
