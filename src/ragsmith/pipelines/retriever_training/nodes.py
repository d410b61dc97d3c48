"""Steps of retriever_training."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ragsmith.pipelines.params import ComputeParams
from ragsmith.pipelines.retriever_training.params import RetrieverTrainingParams

if TYPE_CHECKING:
    from plotly.graph_objects import Figure
else:
    # Kedro evaluates the annotations of a step: a name that is only there for type checkers would turn its
    # parameters into plain dictionaries.
    Figure = Any

logger = logging.getLogger(__name__)


def train(
    base_encoder: Path,
    base_index: Path,
    queries: pd.DataFrame,
    qrels: pd.DataFrame,
    mined: pd.DataFrame,
    passages: pd.DataFrame,
    params: RetrieverTrainingParams,
    compute: ComputeParams,
    work: Path,
) -> tuple[Path, dict[str, Any], pd.DataFrame]:
    """Tune the retriever on the mined training queries; dev questions steer it and decide what ships."""
    from ragsmith.learn.contrastive import ContrastiveSettings
    from ragsmith.learn.dev_pool import dev_set
    from ragsmith.learn.loop import LoopSettings
    from ragsmith.learn.train_retriever import RetrieverData, RetrieverSettings, train_retriever
    from ragsmith.learn.training_data import chosen_queries
    from ragsmith.retrieve.encoder import Encoder
    from ragsmith.retrieve.index import DenseIndex

    machine = compute.machine()
    questions = queries[queries["split"] == "dev"]
    vectors = Encoder.load(base_encoder, machine).encode(questions["text"].tolist(), "query")
    dev = dev_set(questions, vectors, qrels, passages, DenseIndex.load(base_index), params.dev_pool, params.seed)
    settings = RetrieverSettings(
        batch_size=params.batch_size,
        negatives=params.negatives,
        cut_probability=params.cut_probability,
        contrastive=ContrastiveSettings(**params.model_dump(include=set(ContrastiveSettings.__dataclass_fields__))),
        loop=LoopSettings(**params.model_dump(include=set(LoopSettings.__dataclass_fields__))),
    )
    wanted = chosen_queries(queries, params.train_on, params.enough_examples)
    mined = mined[mined["query_id"].isin(wanted["query_id"])]
    logger.info("training on %d queries: %s", len(mined), wanted["kind"].value_counts().to_dict())
    run = train_retriever(base_encoder, RetrieverData(queries, mined, passages, dev), settings, machine, work)
    for row in run.report["gate"]:
        logger.info(
            "gate: %-8s %.4f %s", row["name"], row["ndcg@10"], "ships: " + row["reason"] if row["shipped"] else ""
        )
    return run.model, run.report, pd.read_json(run.log, lines=True)


def index_tuned(retriever: Path, passages: pd.DataFrame, compute: ComputeParams, work: Path) -> Path:
    """Encode all passages with the tuned retriever."""
    from ragsmith.retrieve.build import build_index

    return build_index(retriever, passages, compute.machine(), compute.batch_tokens, work, "tuned index")


def choose_search(
    retriever: Path,
    index: Path,
    queries: pd.DataFrame,
    qrels: pd.DataFrame,
    passages: pd.DataFrame,
    compute: ComputeParams,
) -> dict[str, Any]:
    """Dense or hybrid search, whichever is better on dev: reader and bundle use that one."""
    from ragsmith.learn.search_choice import best_mode

    dev = queries[queries["split"] == "dev"]
    choice = best_mode(retriever, index, dev, qrels, passages, compute.machine())
    logger.info("search: %s (dev nDCG@10 %s)", choice["mode"], choice["ndcg@10"])
    return choice


def plot_training(training_log: pd.DataFrame) -> Figure:
    """Loss and dev score by step."""
    from ragsmith.learn.plots import training_figure

    return training_figure(training_log, "Retriever training")
