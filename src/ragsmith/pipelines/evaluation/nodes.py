"""Steps of evaluation."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ragsmith.pipelines.evaluation.params import EvaluationParams
from ragsmith.pipelines.params import ComputeParams

if TYPE_CHECKING:
    from plotly.graph_objects import Figure
else:
    Figure = Any  # see retriever_training/nodes.py

logger = logging.getLogger(__name__)


def retrieve_runs(
    base_encoder: Path,
    base_index: Path,
    retriever: Path,
    index: Path,
    queries: pd.DataFrame,
    passages: pd.DataFrame,
    params: EvaluationParams,
    compute: ComputeParams,
) -> pd.DataFrame:
    """Ranked passages of the test questions by every system: bm25, base, tuned, hybrid (tuned and bm25 fused)."""
    from ragsmith.retrieve.encoder import Encoder
    from ragsmith.retrieve.index import DenseIndex
    from ragsmith.retrieve.search import Mode, Searcher

    test = queries[queries["split"] == "test"]
    if test.empty:
        raise ValueError(
            "There is no test question. Add gold questions or raise data_collection.split.documents_test."
        )
    machine = compute.machine()
    base, tuned = (
        Searcher(Encoder.load(model, machine, batch_tokens=compute.batch_tokens), DenseIndex.load(folder), passages)
        for model, folder in ((base_encoder, base_index), (retriever, index))
    )
    systems: dict[str, tuple[Searcher, Mode]] = {
        "bm25": (tuned, "bm25"),
        "base": (base, "dense"),
        "tuned": (tuned, "dense"),
        "hybrid": (tuned, "hybrid"),
    }
    ids, texts = test["query_id"].tolist(), test["text"].tolist()
    runs = [
        searcher.run(ids, texts, params.depth, mode).assign(system=name) for name, (searcher, mode) in systems.items()
    ]
    return pd.concat(runs, ignore_index=True)


def read_answers(
    reader: Path,
    queries: pd.DataFrame,
    qrels: pd.DataFrame,
    answers: pd.DataFrame,
    passages: pd.DataFrame,
    runs: pd.DataFrame,
    search_choice: dict[str, Any],
    params: EvaluationParams,
    compute: ComputeParams,
) -> pd.DataFrame:
    """The reader's answer to each test question, from the passages that the bundle would read."""
    from ragsmith.read.examples import reading_examples
    from ragsmith.read.extractive import ExtractiveReader

    system = {"dense": "tuned", "hybrid": "hybrid"}[search_choice["mode"]]
    test = queries[queries["split"] == "test"]
    examples = reading_examples(test, runs[runs["system"] == system], passages, qrels, answers, params.passages)
    model = ExtractiveReader.load(reader, machine=compute.machine())
    spans = model.answer_all([e.question for e in examples], [e.passages for e in examples], label="reading")
    rows = [
        (query_id, span.text, span.passage_id, span.score) if span else (query_id, "", "", 0.0)
        for query_id, span in zip(test["query_id"], spans, strict=True)
    ]
    return pd.DataFrame(rows, columns=["query_id", "answer", "passage_id", "score"])


def score(
    queries: pd.DataFrame,
    qrels: pd.DataFrame,
    answers: pd.DataFrame,
    passages: pd.DataFrame,
    runs: pd.DataFrame,
    predictions: pd.DataFrame,
    retriever_report: dict[str, Any],
    reader_report: dict[str, Any],
    search_choice: dict[str, Any],
    params: EvaluationParams,
    compute: ComputeParams,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Metrics with intervals and paired tests, and one row per test question."""
    from ragsmith.evaluate.answers import score_answers
    from ragsmith.evaluate.experiment import per_query_table, score_systems
    from ragsmith.evaluate.metrics import summarise
    from ragsmith.evaluate.run_card import run_card

    test = queries[queries["split"] == "test"]
    judged = qrels[qrels["query_id"].isin(test["query_id"])]
    references = answers[answers["query_id"].isin(test["query_id"])]
    retrieval = score_systems(runs, judged, params.metrics)
    scored = score_answers(predictions, references)
    order = [params.baseline, "tuned"]
    others = [(name, "tuned") for name in ("base", "bm25", "hybrid") if name != params.baseline]
    card = run_card(machine=vars(compute.machine()), seed=params.seed)
    card |= {"test_questions": len(test), "passages": len(passages), "search": search_choice["mode"]}
    card["prior_weight"] = reader_report["prior_weight"]
    metrics = summarise(
        retrieval, scored, [(order[0], order[1]), *others], card, samples=params.samples, seed=params.seed
    )
    metrics["gate"] = retriever_report["gate"]
    return metrics, per_query_table(test, judged, references, passages, runs, predictions, scored)


def report(metrics: dict[str, Any], per_query: pd.DataFrame) -> tuple[str, Figure, Figure]:
    """The report as one HTML file, and its figures for kedro-viz."""
    from ragsmith.evaluate.figures import rank_figure, retrieval_figure
    from ragsmith.evaluate.report import render_report

    page = render_report(metrics, per_query, metrics["gate"], "ragsmith: what got better")
    return page, retrieval_figure(metrics), rank_figure(per_query)
