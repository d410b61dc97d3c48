"""Steps of negative_mining."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from ragsmith.pipelines.negative_mining.params import NegativeMiningParams
from ragsmith.pipelines.params import ComputeParams

logger = logging.getLogger(__name__)


def mine(
    queries: pd.DataFrame,
    qrels: pd.DataFrame,
    passages: pd.DataFrame,
    splits: pd.DataFrame,
    base_encoder: Path,
    base_index: Path,
    params: NegativeMiningParams,
    compute: ComputeParams,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Hard negatives of the training queries, from training documents alone, with an audit."""
    from ragsmith.retrieve.encoder import Encoder
    from ragsmith.retrieve.index import DenseIndex
    from ragsmith.retrieve.mine import MiningSettings, mine_hard_negatives

    train = queries[queries["split"] == "train"]
    right = qrels[qrels["grade"] > 0].groupby("query_id", sort=False)["passage_id"].agg(list)
    encoder = Encoder.load(base_encoder, compute.machine(), batch_tokens=compute.batch_tokens)
    mined, audit = mine_hard_negatives(
        train["query_id"].tolist(),
        encoder.encode(train["text"].tolist(), "query", "mining"),
        {query_id: right[query_id] for query_id in train["query_id"]},
        DenseIndex.load(base_index),
        passages,
        set(splits.loc[splits["split"] == "train", "document_id"]),
        MiningSettings(**{**params.model_dump(), "relaxed_margins": tuple(params.relaxed_margins)}),
    )
    logger.info("mined %d of %d queries: %s", audit["mined"], audit["queries"], audit["dropped"])
    return mined, audit
