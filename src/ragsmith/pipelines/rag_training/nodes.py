"""Steps of rag_training."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ragsmith.pipelines.params import ComputeParams
from ragsmith.pipelines.rag_training.params import RagTrainingParams

if TYPE_CHECKING:
    from plotly.graph_objects import Figure
else:
    Figure = Any  # see retriever_training/nodes.py

logger = logging.getLogger(__name__)


def retrieve_for_reader(
    retriever: Path,
    index: Path,
    queries: pd.DataFrame,
    passages: pd.DataFrame,
    search_choice: dict[str, Any],
    params: RagTrainingParams,
    compute: ComputeParams,
) -> pd.DataFrame:
    """What the tuned retriever finds for the questions that the reader trains on and is steered by."""
    wanted = pd.concat([training_questions(queries, params), queries[queries["split"] == "dev"]])
    return search(retriever, index, wanted, passages, search_choice, params, compute)


def train(
    base_reader: Path,
    base_encoder: Path,
    base_index: Path,
    retriever: Path,
    index: Path,
    queries: pd.DataFrame,
    qrels: pd.DataFrame,
    answers: pd.DataFrame,
    passages: pd.DataFrame,
    reader_run: pd.DataFrame,
    search_choice: dict[str, Any],
    params: RagTrainingParams,
    compute: ComputeParams,
    work: Path,
) -> tuple[Path, Path, Path, dict[str, Any], pd.DataFrame]:
    """Train what the mode says; dev questions steer it. Retriever and index are those that the reader belongs to."""
    if params.alone():
        model, report, log = train_extractive(
            base_reader, queries, qrels, answers, passages, reader_run, params, compute, work
        )
        return model, retriever, index, report, log
    from ragsmith.read.knowledge_base import KnowledgeBase
    from ragsmith.read.new_reader import new_reader
    from ragsmith.read.questions import joint_questions
    from ragsmith.read.scratch import random_retriever
    from ragsmith.read.train_jointly import train_jointly

    machine = compute.machine()
    reader = new_reader(
        base_reader,
        params.reader,
        params.model_dump(),
        params.lora.settings(),
        machine,
        params.seed if params.random_weights else None,
    )
    base = KnowledgeBase(retriever, index, passages)
    if params.mode == "from_scratch":
        base = KnowledgeBase(base_encoder, base_index, passages)
        if params.random_weights:
            base = random_retriever(base, machine, compute.batch_tokens, params.seed, work / "random")
    run = train_jointly(
        reader,
        base,
        joint_questions(training_questions(queries, params), qrels, answers),
        joint_questions(queries[queries["split"] == "dev"], qrels, answers),
        params.joint_plan(search_choice["mode"]),
        machine,
        work,
    )
    return run.reader, run.retriever, run.index, run.report, pd.read_json(run.log, lines=True)


def train_extractive(
    base_reader: Path,
    queries: pd.DataFrame,
    qrels: pd.DataFrame,
    answers: pd.DataFrame,
    passages: pd.DataFrame,
    reader_run: pd.DataFrame,
    params: RagTrainingParams,
    compute: ComputeParams,
    work: Path,
) -> tuple[Path, dict[str, Any], pd.DataFrame]:
    """The extractive reader alone, on passages that are found once."""
    from ragsmith.collect.questions import ANSWERS, DISTANT
    from ragsmith.read.examples import reading_examples, with_right_passage
    from ragsmith.read.train_reader import train_reader

    retrieved = queries[queries["query_id"].isin(reader_run["query_id"])]
    train_queries, dev_queries = (retrieved[retrieved["split"] == name] for name in ("train", "dev"))
    examples = reading_examples(train_queries, reader_run, passages, qrels, answers, params.passages)
    sources = list(zip(*(train_queries[name] for name in ("passage_id", "cut_start", "cut_end")), strict=True))
    unjudged = set(np.flatnonzero(train_queries["origin"].isin([ANSWERS, DISTANT])).tolist())
    examples = with_right_passage(examples, sources, passages, params.cut_probability, params.seed, unjudged)
    run = train_reader(
        base=base_reader,
        examples=[example for example in examples if example.right],
        dev=reading_examples(dev_queries, reader_run, passages, qrels, answers, params.passages),
        plan=params.reader_plan(),
        machine=compute.machine(),
        work=work,
    )
    passed_over = sum(not example.right for example in examples)
    report = {**run.report, "unjudged_examples": len(unjudged), "without_right_passage": passed_over}
    logger.info("reader: prior weight %s, dev %s", run.report["prior_weight"], run.report["prior"])
    return run.model, report, pd.read_json(run.log, lines=True)


def retrieve_dev(
    retriever: Path,
    index: Path,
    queries: pd.DataFrame,
    passages: pd.DataFrame,
    search_choice: dict[str, Any],
    params: RagTrainingParams,
    compute: ComputeParams,
) -> pd.DataFrame:
    """What the retriever that ships finds for the dev questions: thresholds are chosen on the answers to them."""
    return search(retriever, index, queries[queries["split"] == "dev"], passages, search_choice, params, compute)


def search(
    retriever: Path,
    index: Path,
    queries: pd.DataFrame,
    passages: pd.DataFrame,
    search_choice: dict[str, Any],
    params: RagTrainingParams,
    compute: ComputeParams,
) -> pd.DataFrame:
    """The passages that are read for these queries, as a run with cosines."""
    from ragsmith.retrieve.encoder import Encoder
    from ragsmith.retrieve.index import DenseIndex
    from ragsmith.retrieve.search import Searcher

    encoder = Encoder.load(retriever, compute.machine(), batch_tokens=compute.batch_tokens)
    searcher = Searcher(encoder, DenseIndex.load(index), passages)
    mode = search_choice["mode"]
    return searcher.run(queries["query_id"].tolist(), queries["text"].tolist(), params.passages, mode)


def training_questions(queries: pd.DataFrame, params: RagTrainingParams) -> pd.DataFrame:
    """The questions that are trained on."""
    from ragsmith.learn.training_data import chosen_queries

    chosen = chosen_queries(queries, params.train_on, params.enough_examples)
    return chosen.sample(min(params.max_questions, len(chosen)), random_state=params.seed)


def plot_training(reader_log: pd.DataFrame) -> Figure:
    """Loss and dev exact match by step."""
    from ragsmith.learn.plots import training_figure

    return training_figure(reader_log, "Reader training")
