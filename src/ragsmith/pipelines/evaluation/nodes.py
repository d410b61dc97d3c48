"""Steps of evaluation."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ragsmith.pipelines.evaluation.params import EvaluationParams
from ragsmith.pipelines.params import ComputeParams, plain

if TYPE_CHECKING:
    from plotly.graph_objects import Figure
else:
    Figure = Any  # see retriever_training/nodes.py

logger = logging.getLogger(__name__)

# Which system of the table is served, by the mode that was chosen on dev.
SERVED_BY = {"dense": "tuned", "hybrid": "hybrid"}


def retrieve_runs(
    base_encoder: Path,
    base_index: Path,
    retriever: Path,
    index: Path,
    rag_retriever: Path,
    rag_index: Path,
    base_reranker: Path | None,
    queries: pd.DataFrame,
    qrels: pd.DataFrame,
    passages: pd.DataFrame,
    search_choice: dict[str, Any],
    params: EvaluationParams,
    compute: ComputeParams,
    work: Path,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ranked passages of the test questions by every system, and the right ones alone.

    Systems are bm25, base, tuned (what is served), hybrid (tuned and bm25 fused); contrastive, where rag_training has
    trained the retriever further: what it began with; and reranked (the served one's first passages in the order of
    `models.reranker`) where there is one.
    """
    from ragsmith.evaluate.conditions import oracle_run
    from ragsmith.retrieve.build import load_index
    from ragsmith.retrieve.encoder import Encoder
    from ragsmith.retrieve.models import model_hash
    from ragsmith.retrieve.rerank import rerank
    from ragsmith.retrieve.search import Mode, Searcher
    from ragsmith.retrieve.teacher import Teacher

    test = queries[queries["split"] == "test"]
    if test.empty:
        raise ValueError(
            "There is no test question. Add gold questions or raise data_collection.split.documents_test."
        )
    machine = compute.machine()

    def searcher(model: Path, folder: Path) -> Searcher:
        encoder = Encoder.load(model, machine, batch_tokens=compute.batch_tokens)
        return Searcher(encoder, load_index(folder, model), passages)

    base, tuned = searcher(base_encoder, base_index), searcher(rag_retriever, rag_index)
    systems: dict[str, tuple[Searcher, Mode]] = {"bm25": (tuned, "bm25"), "base": (base, "dense")}
    # Not the indexes: where the encoder of questions was trained alone, both are the same.
    if model_hash(str(rag_retriever)) != model_hash(str(retriever)):
        systems["contrastive"] = (searcher(retriever, index), "dense")
    systems |= {"tuned": (tuned, "dense"), "hybrid": (tuned, "hybrid")}
    ids, texts = test["query_id"].tolist(), test["text"].tolist()
    runs = {name: found.run(ids, texts, params.depth, mode) for name, (found, mode) in systems.items()}
    if base_reranker is not None:
        teacher = Teacher.load(base_reranker, machine, work / "reranker", compute.batch_tokens)
        runs["reranked"] = rerank(runs[SERVED_BY[search_choice["mode"]]], test, passages, teacher, params.rerank_depth)
    table = pd.concat([run.assign(system=name) for name, run in runs.items()], ignore_index=True)
    return table, oracle_run(test, qrels, tuned)


def read_answers(
    reader: Path,
    queries: pd.DataFrame,
    qrels: pd.DataFrame,
    answers: pd.DataFrame,
    passages: pd.DataFrame,
    runs: pd.DataFrame,
    oracle_run: pd.DataFrame,
    dev_run: pd.DataFrame,
    search_choice: dict[str, Any],
    params: EvaluationParams,
    compute: ComputeParams,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The reader's answers: from what the bundle would read, what is right, what the others find; and those of dev."""
    from ragsmith.evaluate.conditions import SERVED, Asked, read_conditions
    from ragsmith.read.readers import load_reader

    found = dict(iter(runs.groupby("system", sort=False)))
    conditions = {
        SERVED: found[SERVED_BY[search_choice["mode"]]],
        "oracle": oracle_run,
        "base_retrieved": found["base"],
    }
    if "reranked" in found:
        conditions["reranked"] = found["reranked"]
    model = load_reader(reader, compute.machine())
    test, dev = (queries[queries["split"] == name] for name in ("test", "dev"))
    answered = read_conditions(
        model, Asked(test, passages, qrels, answers), conditions, params.passages, params.reader_ks
    )
    # A threshold for giving no answer is chosen on dev, like every choice.
    of_dev = read_conditions(model, Asked(dev, passages, qrels, answers), {"dev": dev_run}, params.passages)
    predictions = pd.concat([answered.predictions, of_dev.predictions], ignore_index=True)
    return predictions, answered.sweep, answered.posteriors


def probe_forgetting(
    base_encoder: Path, retriever: Path, probe_folder: Path, params: EvaluationParams, compute: ComputeParams
) -> dict[str, Any]:
    """What tuning has cost on a general set: base and tuned on that in `paths.probe`; nothing where there is none."""
    from ragsmith.evaluate.forgetting import probe
    from ragsmith.retrieve.encoder import Encoder

    if not probe_folder.is_dir() or not any(probe_folder.iterdir()):
        return {"forgetting": None}
    machine = compute.machine()
    encoders = {
        name: Encoder.load(model, machine, batch_tokens=compute.batch_tokens)
        for name, model in (("base", base_encoder), ("tuned", retriever))
    }
    asked = params.probe
    chance: dict[str, Any] = {"samples": params.samples, "seed": params.seed}
    return {"forgetting": probe(probe_folder, asked.split, encoders, asked.metrics, limit=asked.limit, **chance)}


def check_answers(
    queries: pd.DataFrame,
    qrels: pd.DataFrame,
    answers: pd.DataFrame,
    passages: pd.DataFrame,
    predictions: pd.DataFrame,
    base_nli: Path | None,
    params: EvaluationParams,
    compute: ComputeParams,
    work: Path,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Whether answers are supported by what they cite, and what a language model says of them, where asked for."""
    from ragsmith.evaluate import answer_checks
    from ragsmith.evaluate.conditions import Asked

    settings = answer_checks.CheckSettings(
        base_nli,
        params.nli_is_lettucedetect,
        params.judge.endpoint,
        params.judge.repeats,
        params.judge.limit,
        params.samples,
        params.seed,
    )
    asked = Asked(queries[queries["split"] == "test"], passages, qrels, answers)
    return answer_checks.check_answers(asked, predictions, settings, compute.machine(), work)


def score(
    retriever: Path,
    reader: Path,
    queries: pd.DataFrame,
    qrels: pd.DataFrame,
    answers: pd.DataFrame,
    passages: pd.DataFrame,
    documents: pd.DataFrame,
    runs: pd.DataFrame,
    predictions: pd.DataFrame,
    sweep_predictions: pd.DataFrame,
    posteriors: pd.DataFrame,
    forgetting: dict[str, Any],
    answer_checks: dict[str, Any],
    retriever_report: dict[str, Any],
    reader_report: dict[str, Any],
    search_choice: dict[str, Any],
    history: Path,
    parameters: dict[str, Any],
    params: EvaluationParams,
    compute: ComputeParams,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Metrics with intervals and paired tests, what lies behind them, and one row per test question."""
    from ragsmith.evaluate.answers import score_answers
    from ragsmith.evaluate.compare_versions import compare_versions
    from ragsmith.evaluate.conditions import SERVED, Answered, Asked
    from ragsmith.evaluate.decomposition import UNJUDGED, categories
    from ragsmith.evaluate.diagnosis import DiagnosisSettings, diagnose, summarise_conditions
    from ragsmith.evaluate.experiment import measurable, per_query_table, score_conditions, score_systems
    from ragsmith.evaluate.history import find_version
    from ragsmith.evaluate.metrics import summarise
    from ragsmith.evaluate.run_card import run_card
    from ragsmith.evaluate.saved_version import SavedVersion, read_version
    from ragsmith.evaluate.slice_columns import slice_columns

    test, dev = (queries[queries["split"] == name] for name in ("test", "dev"))
    of_test, of_dev = (table["query_id"] for table in (test, dev))
    asked = Asked(test, passages, qrels[qrels["query_id"].isin(of_test)], answers[answers["query_id"].isin(of_test)])
    chance: dict[str, Any] = {"samples": params.samples, "seed": params.seed}
    wanted = measurable(params.metrics, asked)
    retrieval = score_systems(runs, asked, measurable([*wanted, "ndcg@10"], asked))
    answered = Answered(predictions[predictions["condition"] != "dev"], sweep_predictions, posteriors)
    scored = score_conditions(answered.predictions, asked.answers)

    card = run_card(
        vars(compute.machine()), params.seed, {"retriever": retriever, "reader": reader}, plain(parameters)
    )
    card |= {"test_questions": len(test), "passages": len(passages), "search": search_choice["mode"]}
    card["prior_weight"] = reader_report["prior_weight"]
    card["training_steps"] = {"retriever": retriever_report["steps"], "reader": reader_report["steps"]}
    first = params.baseline_system
    others = [
        name for name in ("base", "contrastive", "bm25", "hybrid", "reranked") if name in set(runs["system"]) - {first}
    ]
    metrics = summarise(
        retrieval[retrieval["metric"].isin(wanted)],
        scored[SERVED],
        [(name, "tuned") for name in (first, *others)],
        card,
        **chance,
    )
    metrics["gate"] = retriever_report["gate"]
    metrics["conditions"], metrics["condition_comparisons"] = summarise_conditions(scored, **chance)

    table = per_query_table(asked, runs, answered, scored, retrieval)
    judged = table["query_id"].isin(asked.judged())
    metrics["queries"]["answers_alone"] = int((~judged).sum())
    table["category"] = UNJUDGED
    if judged.any():
        table.loc[judged, "category"] = categories(
            table[judged], asked.qrels, least_score=params.no_answer_threshold or 0.0
        )
    table = table.merge(slice_columns(test, asked.answers, asked.qrels, passages, documents), on="query_id")
    dev_answers = predictions[predictions["condition"] == "dev"]
    dev_scores = score_answers(dev_answers, answers[answers["query_id"].isin(of_dev)])
    settings = DiagnosisSettings(
        tuple(params.ks), params.no_answer_threshold or 0.0, params.target_accuracy, params.min_slice, **chance
    )
    served = SERVED_BY[search_choice["mode"]]
    metrics |= diagnose(asked, runs, answered, table, dev_answers.merge(dev_scores, on="query_id"), served, settings)
    metrics |= forgetting | answer_checks | {"against": None}
    if params.baseline != first:
        earlier = read_version(find_version(params.baseline, history), params.baseline)
        metrics["against"] = compare_versions(earlier, SavedVersion("this run", metrics, table), **chance, limit=20)
    return metrics, table


def write_runs(runs: pd.DataFrame, qrels: pd.DataFrame, work: Path) -> Path:
    """Runs and qrels as TREC's tools read them, so that anyone can check the figures."""
    import shutil

    from ragsmith.evaluate.trec import write_trec

    folder = work / "trec"
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    return write_trec(runs, qrels[qrels["query_id"].isin(runs["query_id"])], folder)


def report(metrics: dict[str, Any], per_query: pd.DataFrame, passages: pd.DataFrame) -> str:
    """The report as one HTML file."""
    from ragsmith.evaluate.report import render_report

    return render_report(metrics, per_query, passages, "ragsmith: what got better")


def plot(
    metrics: dict[str, Any], per_query: pd.DataFrame, posteriors: pd.DataFrame, queries: pd.DataFrame
) -> tuple[Figure, Figure, Figure, Figure, Figure, Figure, Figure]:
    """The report's figures for kedro-viz."""
    from ragsmith.evaluate.diagnosis_figures import (
        calibration_figure,
        decomposition_figure,
        slices_figure,
        sweep_figure,
    )
    from ragsmith.evaluate.figures import rank_figure, retrieval_figure
    from ragsmith.evaluate.posterior_figures import posterior_figure

    return (
        retrieval_figure(metrics),
        rank_figure(per_query),
        decomposition_figure(metrics),
        slices_figure(metrics),
        sweep_figure(metrics),
        calibration_figure(metrics),
        posterior_figure(posteriors, queries),
    )
