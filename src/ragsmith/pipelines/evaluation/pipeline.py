"""Wiring of evaluation."""

from kedro.pipeline import Node, Pipeline

from ragsmith.pipelines.evaluation.nodes import (
    check_answers,
    plot,
    probe_forgetting,
    read_answers,
    report,
    retrieve_runs,
    score,
    write_runs,
)

PARAMS = ["params:evaluation", "params:compute"]
FIGURES = [
    "retrieval_figure",
    "rank_figure",
    "decomposition_figure",
    "slices_figure",
    "sweep_figure",
    "calibration_figure",
    "posterior_figure",
]


def create_pipeline() -> Pipeline:
    """Test questions → runs, answers under several conditions → metrics, report, figures."""
    return Pipeline(
        [
            Node(
                retrieve_runs,
                [
                    "base_encoder",
                    "base_index",
                    "retriever",
                    "index",
                    "rag_retriever",
                    "rag_index",
                    "base_reranker",
                    "queries",
                    "qrels",
                    "passages",
                    "search_choice",
                    *PARAMS,
                    "evaluation_work",
                ],
                ["runs", "oracle_run"],
                name="retrieve_runs",
            ),
            Node(write_runs, ["runs", "qrels", "evaluation_work"], "trec", name="write_runs"),
            Node(
                read_answers,
                [
                    "reader",
                    "queries",
                    "qrels",
                    "answers",
                    "passages",
                    "runs",
                    "oracle_run",
                    "dev_run",
                    "search_choice",
                    *PARAMS,
                ],
                ["predictions", "sweep_predictions", "posteriors"],
                name="read_answers",
            ),
            Node(
                probe_forgetting,
                ["base_encoder", "rag_retriever", "probe_folder", *PARAMS],
                "forgetting",
                name="probe_forgetting",
            ),
            Node(
                check_answers,
                ["queries", "qrels", "answers", "passages", "predictions", "base_nli", *PARAMS, "evaluation_work"],
                ["answer_checks", "checked_answers"],
                name="check_answers",
            ),
            Node(
                score,
                [
                    "rag_retriever",
                    "reader",
                    "queries",
                    "qrels",
                    "answers",
                    "passages",
                    "documents",
                    "runs",
                    "predictions",
                    "sweep_predictions",
                    "posteriors",
                    "forgetting",
                    "answer_checks",
                    "retriever_report",
                    "reader_report",
                    "search_choice",
                    "history",
                    "parameters",
                    *PARAMS,
                ],
                ["metrics", "per_query"],
                name="score",
            ),
            Node(report, ["metrics", "per_query", "passages"], "report", name="write_report"),
            Node(plot, ["metrics", "per_query", "posteriors", "queries"], FIGURES, name="plot_evaluation"),
        ],
        tags=["evaluation"],
    )
