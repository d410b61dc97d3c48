"""Which way of searching is best on dev."""

from pathlib import Path
from typing import Any

import pandas as pd

from ragsmith.compute.device import Machine
from ragsmith.learn.ranking import ndcg
from ragsmith.retrieve.build import load_index
from ragsmith.retrieve.encoder import BATCH_TOKENS, Encoder
from ragsmith.retrieve.search import Mode, Searcher


def best_mode(
    retriever: Path,
    index: Path,
    queries: pd.DataFrame,
    qrels: pd.DataFrame,
    passages: pd.DataFrame,
    machine: Machine | None = None,
    batch_tokens: int = BATCH_TOKENS,
) -> dict[str, Any]:
    """Dense or hybrid, by nDCG@10 of dev questions over all passages; dense at a tie.

    Args:
        retriever, index: the model and its index.
        queries: query_id, text: dev questions.
        qrels: query_id, passage_id, grade.
        passages: passage_id, title, text.
        machine: None probes.
        batch_tokens: of questions, encoded at once.
    Returns:
        {"mode": …, "ndcg@10": {mode: score}}.
    """
    right = qrels[(qrels["grade"] > 0) & qrels["query_id"].isin(queries["query_id"])]
    relevant = right.groupby("query_id")["passage_id"].agg(set)
    judged = queries[queries["query_id"].isin(relevant.index)]
    encoder = Encoder.load(retriever, machine, batch_tokens=batch_tokens)
    searcher = Searcher(encoder, load_index(index, retriever), passages)
    scores: dict[Mode, float] = {}
    modes: tuple[Mode, ...] = ("dense", "hybrid")
    for mode in modes:
        run = searcher.run(judged["query_id"].tolist(), judged["text"].tolist(), 10, mode)
        found = run.sort_values("rank").groupby("query_id")["passage_id"].agg(list)
        ranked = [found.get(query_id, []) for query_id in judged["query_id"]]
        scores[mode] = ndcg(ranked, [relevant[query_id] for query_id in judged["query_id"]])
    return {"mode": max(scores, key=lambda mode: scores[mode]), "ndcg@10": scores}
