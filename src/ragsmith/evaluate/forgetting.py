"""Whether tuning cost a retriever what it knew before: both models on questions that have nothing to do with ours."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ragsmith.collect.exchange.beir import BeirSet, read_beir
from ragsmith.evaluate._checks import json_safe
from ragsmith.evaluate.retrieval import lengthen, parse_metric, score_matrix
from ragsmith.evaluate.significance import compare, correct_together, estimates
from ragsmith.retrieve.index import run_table
from ragsmith.retrieve.passage_text import passage_inputs
from ragsmith.retrieve.top_k import top_k

if TYPE_CHECKING:
    from ragsmith.retrieve.encoder import Encoder

logger = logging.getLogger(__name__)


def probe(
    folder: Path,
    split: str,
    encoders: Mapping[str, "Encoder"],
    metrics: Sequence[str] = ("ndcg@10", "recall@10"),
    *,
    samples: int = 10_000,
    seed: int = 0,
    limit: int | None = None,
) -> dict[str, Any]:
    """Score encoders on a general benchmark, and compare the first with each of the others.

    Args:
        folder: a BEIR folder, such as SciFact or NFCorpus.
        split: whose judgements count, such as `test`.
        encoders: at least two by name; the first is what the others are compared with: base, tuned.
        metrics: as `score_matrix` names them.
        samples: of bootstrap and permutation test.
        seed: of both, and of the sample of passages.
        limit: most passages to search; None searches all. Judged ones are always searched. All systems search the
            same passages, so the comparison holds; the figures are higher than on the whole corpus.
    Returns:
        probe: the folder's name; split; queries and passages: counts of what was scored and searched;
        left_out: {reason: count}, as `BeirSet` has them;
        systems: {name: {metric: {mean, ci95}}};
        comparisons: [{a, b, metric, difference, ci95, p, p_holm}], a being the first system, below 0 where the other
            forgot; Holm's correction over the whole list.
    Raises:
        ValueError: fewer than two encoders or queries, no metric or an unknown one, or a folder that cannot be read.
        NotADirectoryError: `folder` is not a folder.
    """
    if not metrics:
        raise ValueError("No metric to score with. Name at least one, such as ndcg@10.")
    if len(encoders) < 2:
        raise ValueError("Forgetting is told from two encoders, such as {'base': …, 'tuned': …}.")
    data = read_beir(folder, split, limit, seed)
    if len(data.queries) < 2:
        raise ValueError(f"{folder}: one query of the split {split!r} can be scored; a comparison needs at least two.")
    # That a folder has queries of other splits is usual; that it judges what it does not have is not.
    for reason in ("judgements_of_unknown_queries", "judgements_of_unknown_passages"):
        if data.left_out[reason]:
            logger.warning("%s: %d %s are left out", folder, data.left_out[reason], reason.replace("_", " "))
    # An unknown metric is told before anything is encoded.
    depth = max(parse_metric(metric)[1] for metric in metrics)
    scored = {
        name: score_matrix(search(data, encoder, depth, name), data.qrels, metrics)
        for name, encoder in encoders.items()
    }
    first, *others = scored
    compared = [
        comparison
        for name in others
        for comparison in compare(
            lengthen(scored[first]), lengthen(scored[name]), names=(first, name), samples=samples, seed=seed
        )
    ]
    result = {
        "probe": folder.resolve().name,
        "split": split,
        "queries": len(data.queries),
        "passages": len(data.passages),
        "left_out": dict(data.left_out),
        "systems": {
            name: estimates(matrix.sort_index(kind="stable"), samples=samples, seed=seed)
            for name, matrix in scored.items()
        },
        "comparisons": [asdict(comparison) for comparison in correct_together(compared)],
    }
    return json_safe(result)


def search(data: BeirSet, encoder: "Encoder", k: int, name: str = "") -> pd.DataFrame:
    """The k nearest passages of each query.

    Args:
        data: passages and queries.
        encoder: of both.
        k: at least 1; cut to the number of passages.
        name: of the encoder, for the progress bar; empty shows none.
    Returns:
        query_id, passage_id, score (cosine), rank (1 is best).
    """
    label = f"probe, {name}" if name else ""
    vectors = encoder.encode(probe_inputs(data.passages), "passage", label)
    scores, rows = top_k(encoder.encode(data.queries["text"].tolist(), "query"), vectors, k, encoder.machine)
    ids = np.asarray(data.passages["passage_id"], dtype=object)
    return run_table(
        data.queries["query_id"].tolist(), [list(ids[row]) for row in rows], [list(row) for row in scores]
    )


def probe_inputs(passages: pd.DataFrame) -> list[str]:
    """What a model reads of each passage: below its title, as ours are; a benchmark's may have none.

    Args:
        passages: title (may be empty), text.
    """
    below = passage_inputs(passages)
    return [
        full if title.strip() else text
        for full, title, text in zip(below, passages["title"], passages["text"], strict=True)
    ]
