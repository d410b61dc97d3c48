"""Steps of rag_training."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ragsmith.pipelines.params import ComputeParams
from ragsmith.pipelines.rag_training.params import RagTrainingParams

if TYPE_CHECKING:
    from plotly.graph_objects import Figure
else:
    Figure = Any  # see retriever_training/nodes.py


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
    search_choice: dict[str, Any],
    params: RagTrainingParams,
    compute: ComputeParams,
    work: Path,
) -> tuple[Path, Path, Path, dict[str, Any], pd.DataFrame]:
    """Train what the mode says; dev questions steer it. Retriever and index are those that the reader belongs to."""
    from ragsmith.read.knowledge_base import KnowledgeBase
    from ragsmith.read.new_reader import new_reader
    from ragsmith.read.questions import rag_questions
    from ragsmith.read.scratch import random_retriever
    from ragsmith.read.train_rag import train_rag

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
    run = train_rag(
        reader,
        base,
        rag_questions(training_questions(queries, params), qrels, answers),
        rag_questions(queries[queries["split"] == "dev"], qrels, answers),
        params.rag_plan(search_choice["mode"]),
        machine,
        work,
    )
    return run.reader, run.retriever, run.index, run.report, pd.read_json(run.log, lines=True)


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
    from ragsmith.retrieve.build import load_index
    from ragsmith.retrieve.encoder import Encoder
    from ragsmith.retrieve.search import Searcher

    encoder = Encoder.load(retriever, compute.machine(), batch_tokens=compute.batch_tokens)
    searcher = Searcher(encoder, load_index(index, retriever), passages)
    dev = queries[queries["split"] == "dev"]
    return searcher.run(dev["query_id"].tolist(), dev["text"].tolist(), params.passages, search_choice["mode"])


def training_questions(queries: pd.DataFrame, params: RagTrainingParams) -> pd.DataFrame:
    """The questions that are trained on."""
    from ragsmith.learn.training_data import chosen_queries

    chosen = chosen_queries(queries, params.train_on, params.enough_examples)
    return chosen.sample(min(params.max_questions, len(chosen)), random_state=params.seed)


def plot_training(reader_log: pd.DataFrame) -> Figure:
    """Loss and dev exact match by step."""
    from ragsmith.learn.plots import training_figure

    return training_figure(reader_log, "Reader training")
