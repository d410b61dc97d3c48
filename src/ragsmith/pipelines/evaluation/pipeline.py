"""Wiring of evaluation."""

from kedro.pipeline import Node, Pipeline

from ragsmith.pipelines.evaluation.nodes import read_answers, report, retrieve_runs, score


def create_pipeline() -> Pipeline:
    """Test questions → runs, predictions → metrics, report."""
    params = ["params:evaluation", "params:compute"]
    return Pipeline(
        [
            Node(
                retrieve_runs,
                ["base_encoder", "base_index", "retriever", "index", "queries", "passages", *params],
                "runs",
                name="retrieve_runs",
            ),
            Node(
                read_answers,
                ["reader", "queries", "qrels", "answers", "passages", "runs", "search_choice", *params],
                "predictions",
                name="read_answers",
            ),
            Node(
                score,
                [
                    "queries",
                    "qrels",
                    "answers",
                    "passages",
                    "runs",
                    "predictions",
                    "retriever_report",
                    "reader_report",
                    "search_choice",
                    *params,
                ],
                ["metrics", "per_query"],
                name="score",
            ),
            Node(report, ["metrics", "per_query"], ["report", "retrieval_figure", "rank_figure"], name="write_report"),
        ],
        tags=["evaluation"],
    )
