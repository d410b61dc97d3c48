"""Steps of negative_mining."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ragsmith.pipelines.negative_mining.params import NegativeMiningParams
from ragsmith.pipelines.params import ComputeParams

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from ragsmith.retrieve.mining_data import MiningSettings
else:
    # Kedro evaluates the annotations of a step, and plotly is slow to import.
    Figure = Any

logger = logging.getLogger(__name__)


def mine(
    queries: pd.DataFrame,
    qrels: pd.DataFrame,
    passages: pd.DataFrame,
    splits: pd.DataFrame,
    base_encoder: Path,
    base_index: Path,
    base_reranker: Path | None,
    candidate_pool: Path,
    given_negatives: pd.DataFrame,
    positive_scores: pd.DataFrame,
    work: Path,
    params: NegativeMiningParams,
    compute: ComputeParams,
) -> tuple[pd.DataFrame, dict[str, Any], dict[str, Any], pd.DataFrame, Figure]:
    """Hard negatives of the training queries, from training documents alone, with how and what was found."""
    from dataclasses import asdict

    from ragsmith.retrieve.build import load_index
    from ragsmith.retrieve.candidate_pool import training_pool
    from ragsmith.retrieve.encoder import Encoder
    from ragsmith.retrieve.mine import mine_hard_negatives
    from ragsmith.retrieve.mining_audit import score_figure
    from ragsmith.retrieve.mining_data import MiningData
    from ragsmith.retrieve.teacher import Teacher

    right = qrels[qrels["grade"] > 0].groupby("query_id", sort=False)["passage_id"].agg(list)
    train = queries[queries["split"] == "train"]
    has_positive = train["query_id"].isin(right.index)
    without = int((~has_positive).sum())
    if without and not has_positive.any():
        raise ValueError(
            f"None of {without} training queries has a right passage: they have answers alone. Set "
            "data_collection.records.distant_supervision to true, or add example questions that name passages."
        )
    train = train[has_positive]
    if without:
        logger.info("%d training queries have answers alone and no right passage: nothing is mined for them", without)
    machine = compute.machine()
    encoder = Encoder.load(base_encoder, machine, batch_tokens=compute.batch_tokens)
    if params.query_prompt is not None:
        encoder.model.prompts = {**encoder.model.prompts, "query": params.query_prompt}
        encoder.model.default_prompt_name = None  # it would fill an empty one
    mined = mine_hard_negatives(
        MiningData(
            train,
            encoder.encode(train["text"].tolist(), "query", "mining", cache=work / "query_vectors"),
            {query_id: right[query_id] for query_id in train["query_id"]},
            load_index(base_index, base_encoder),
            passages,
            training_pool(candidate_pool, passages, splits),
            given_negatives,
            positive_scores,
        ),
        mining_settings(params),
        machine,
        Teacher.load(base_reranker, machine, work, params.rerank_batch_tokens) if base_reranker else None,
    )
    report = mined.report
    logger.info("mined %s of %s queries; dropped: %s", report["mined"], report["queries"], report["dropped"])
    if report["starved"]:
        logger.info("%s queries starved; relaxed: %s", report["starved"], report["relaxed_to_margin"])
    if left_out := len(given_negatives) - report["given"]:
        logger.info("%d given negatives are not used: of no mined query, a right answer or a duplicate", left_out)
    if base_reranker and len(positive_scores):
        logger.info(
            "%d queries have a teacher's scores in the records, which are not used: models.reranker scores them all",
            positive_scores["query_id"].nunique(),
        )
    elif report["given_scores"]:
        logger.info("%d of %d queries have a teacher's scores from records", report["given_scores"], report["queries"])
    settings = {**asdict(mining_settings(params)), "rerank_batch_tokens": params.rerank_batch_tokens}
    report = {**report, "given_left_out": left_out, "without_positive": without}
    return mined.table, settings, report, mined.samples, score_figure(report)


def mining_settings(params: NegativeMiningParams) -> "MiningSettings":
    """The parameters as the library takes them."""
    from ragsmith.retrieve.margins import Margins
    from ragsmith.retrieve.mining_data import MiningSettings

    return MiningSettings(
        miner=params.miner,
        skip_top=params.skip_top,
        top_k=params.top_k,
        num_negatives=params.num_negatives,
        select=params.select,
        margins=Margins(
            params.relative_margin,
            tuple(params.relaxed_margins),
            params.absolute_margin,
            params.max_score,
            params.min_score,
        ),
        exclude_same_document=params.exclude_same_document,
        exclude_same_section=params.exclude_same_section,
        near_duplicate=params.near_duplicate,
        rerank_k=params.rerank_k,
        too_few=params.too_few,
        audit_queries=params.audit_queries,
        seed=params.seed,
    )
