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
    from ragsmith.learn.training_data import chosen_queries
    from ragsmith.retrieve.encoder import Encoder
    from ragsmith.retrieve.index import DenseIndex
    from ragsmith.retrieve.search import Searcher

    train = chosen_queries(queries, params.train_on, params.enough_examples)
    train = train.sample(min(params.max_questions, len(train)), random_state=params.seed)
    wanted = pd.concat([train, queries[queries["split"] == "dev"]])
    encoder = Encoder.load(retriever, compute.machine(), batch_tokens=compute.batch_tokens)
    searcher = Searcher(encoder, DenseIndex.load(index), passages)
    return searcher.run(wanted["query_id"].tolist(), wanted["text"].tolist(), params.passages, search_choice["mode"])


def train(
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
    """Train the reader on what was retrieved for training questions; dev questions steer it."""
    from ragsmith.collect.questions import ANSWERS, DISTANT
    from ragsmith.learn.loop import LoopSettings
    from ragsmith.read.examples import reading_examples, with_right_passage
    from ragsmith.read.extractive import ReaderSettings
    from ragsmith.read.train_reader import ReaderPlan, train_reader

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
        plan=ReaderPlan(
            reader=ReaderSettings(max_tokens=params.max_tokens, max_answer_tokens=params.max_answer_tokens),
            batch_size=params.batch_size,
            prior_weights=params.prior_weights,
            loop=LoopSettings(**params.model_dump(include=set(LoopSettings.__dataclass_fields__))),
        ),
        machine=compute.machine(),
        work=work,
    )
    passed_over = sum(not example.right for example in examples)
    report = {**run.report, "unjudged_examples": len(unjudged), "without_right_passage": passed_over}
    logger.info("reader: prior weight %s, dev %s", run.report["prior_weight"], run.report["prior"])
    return run.model, report, pd.read_json(run.log, lines=True)


def plot_training(reader_log: pd.DataFrame) -> Figure:
    """Loss and dev exact match by step."""
    from ragsmith.learn.plots import training_figure

    return training_figure(reader_log, "Reader training")
