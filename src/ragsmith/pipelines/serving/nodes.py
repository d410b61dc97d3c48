"""Steps of serving."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from ragsmith.pipelines.params import ComputeParams
from ragsmith.pipelines.serving.params import ServingParams

logger = logging.getLogger(__name__)


def make_bundle(
    retriever: Path,
    index: Path,
    reader: Path,
    passages: pd.DataFrame,
    search_choice: dict[str, Any],
    metrics: dict[str, Any],
    params: ServingParams,
    work: Path,
) -> Path:
    """Put together what was evaluated."""
    from ragsmith.serve.bundle import build_bundle

    table = work / "passages.parquet"
    passages.to_parquet(table, index=False)
    settings = {"mode": search_choice["mode"], "passages": params.passages}
    scores = {name: metrics[name] for name in ("retrieval", "answers", "queries")}
    return build_bundle(retriever, index, reader, table, settings, scores, work / "bundle")


def check_bundle(bundle: Path, queries: pd.DataFrame, params: ServingParams, compute: ComputeParams) -> dict[str, Any]:
    """Open the finished bundle and ask it one question, so that a broken bundle fails the run."""
    from ragsmith.serve.engine import Engine

    question = params.smoke_question or queries.loc[queries["split"] == "test", "text"].iloc[0]
    answer = Engine.load(bundle, compute.machine()).ask(question)
    if answer.hit is None or not answer.text:
        raise ValueError(f"The bundle at {bundle} gives no answer to {question!r}: it is broken.")
    logger.info("bundle asked %r: %s", question, answer.text)
    return asdict(answer)
