"""What more passages bring: every metric of retrieval, and of the answers, over the number of passages."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ragsmith.evaluate._checks import repeated, require_columns, some
from ragsmith.evaluate.answer_recall import answer_recall
from ragsmith.evaluate.estimate import estimate
from ragsmith.evaluate.retrieval import score_matrix
from ragsmith.evaluate.significance import estimates
from ragsmith.retrieve.index import RUN_COLUMNS

KS = (1, 3, 5, 10, 20, 50, 100)
RETRIEVAL_KINDS = ("hit", "recall", "precision", "mrr", "map", "ndcg")


def retrieval_sweep(
    runs: pd.DataFrame,
    qrels: pd.DataFrame,
    answers: pd.DataFrame | None = None,
    passages: pd.DataFrame | None = None,
    ks: Sequence[int] = KS,
    *,
    samples: int = 10_000,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Means over the queries of every retrieval metric at every depth, for each system, with their intervals.

    A depth beyond what a run holds counts as if nothing followed: hit and recall stay, precision falls.

    Args:
        runs: system, query_id, passage_id, score, rank.
        qrels: query_id, passage_id, grade, of the queries to score; may be empty where there are answers.
        answers: query_id, answers (list of str); others than of these queries and of the runs' are left out. None, or
            none of these queries: answer recall is left out. A query of the runs that has answers needs no qrels.
        passages: passage_id, text; needed with answers.
        ks: depths, each at least 1; any order, doubles count once.
        samples, seed: of the intervals.
    Returns:
        retrieval: {system: {kind: {"<k>": mean}}}, with the kinds hit, recall, precision, mrr, map, ndcg,
        answer_recall and the depths ascending; retrieval_ci95: the same with [low, high] in the place of the means.
        answer_recall is over those queries that have an accepted answer, the others over those that have qrels.
    Raises:
        ValueError: no depth or one below 1, no system, answers without passages, fewer than two queries; as in
            `score_matrix` and `answer_recall`.
    """
    require_columns(runs, "runs", ["system", *RUN_COLUMNS])
    depths = sorted(set(ks))
    if not depths or depths[0] < 1:
        raise ValueError(f"The depths are {some(depths)}; pass at least one, and none below 1.")
    if runs.empty:
        raise ValueError("The runs are empty, so there is nothing to score. Retrieve passages first.")
    references = _references(answers, passages, {*qrels["query_id"], *runs["query_id"]})
    answered = set() if references is None else set(references["query_id"])
    unjudged = answered - set(qrels["query_id"])
    means: dict[str, Any] = {}
    intervals: dict[str, Any] = {}
    for system, table in runs.groupby("system", sort=False):
        run = table[RUN_COLUMNS].reset_index(drop=True)
        # The name tells the kind and the depth, so that one pass over the run gives all.
        matrices = []
        if len(qrels) or not unjudged:
            judged = run[~run["query_id"].isin(unjudged)].reset_index(drop=True)
            matrices.append(score_matrix(judged, qrels, [f"{kind}@{k}" for kind in RETRIEVAL_KINDS for k in depths]))
        if references is not None and passages is not None:
            read = run[run["query_id"].isin(answered)]
            matrices.append(answer_recall(read, passages, references, depths))
        found: dict[Any, Any] = {}
        for matrix in matrices:
            ordered = matrix.iloc[np.argsort(matrix.index.astype(str), kind="stable")]
            if len(ordered) > 1:
                found |= estimates(ordered, samples=samples, seed=seed)
            else:  # one query alone has an answer
                found |= {name: estimate(ordered[name], samples=samples, seed=seed) for name in ordered}
        kinds = dict.fromkeys(name.partition("@")[0] for name in found)
        means[str(system)], intervals[str(system)] = (
            {kind: {str(k): found[f"{kind}@{k}"][part] for k in depths} for kind in kinds} for part in ("mean", "ci95")
        )
    return {"retrieval": means, "retrieval_ci95": intervals}


def reader_sweep(sweep_scores: pd.DataFrame, *, samples: int = 10_000, seed: int) -> list[dict[str, Any]]:
    """Means of the answers over the number of passages that were read.

    Args:
        sweep_scores: k (passages read, at least 1), query_id, em, f1: `score_answers` of each k, of the same queries.
        samples, seed: of the intervals.
    Returns:
        [{k, em: {mean, ci95}, f1: {mean, ci95}}], the fewest passages first.
    Raises:
        ValueError: a column is missing, no rows, a query twice at one k, other queries at one k than at another,
            fewer than two queries, or a missing score.
    """
    require_columns(sweep_scores, "sweep_scores", ["k", "query_id", "em", "f1"])
    if sweep_scores.empty:
        raise ValueError("The sweep_scores table is empty. Read answers for at least one number of passages.")
    if doubles := repeated(sweep_scores, ["k", "query_id"]):
        raise ValueError(f"The sweep_scores repeat (k, query_id) {some(doubles)}; keep one score.")
    wide = sweep_scores.pivot(index="query_id", columns="k", values=["em", "f1"])
    lacking = sweep_scores.groupby("k").size().reindex(wide.columns.unique("k"), fill_value=0)
    if (lacking != len(wide)).any():
        # Means over different queries would show what these queries are, and not what the passages bring.
        counts = {int(k): int(count) for k, count in lacking.items()}
        raise ValueError(f"The queries differ between the numbers of passages: {counts}. Score the same for each.")
    # Sorted by query, as everywhere: the intervals must not depend on the order of rows.
    ordered = wide.iloc[np.argsort(wide.index.astype(str), kind="stable")].astype(float)
    measured = estimates(ordered, samples=samples, seed=seed)
    return [
        {"k": int(k)} | {name: measured[name, k] for name in ("em", "f1")} for k in sorted(wide.columns.unique("k"))
    ]


def _references(
    answers: pd.DataFrame | None, passages: pd.DataFrame | None, query_ids: set[Any]
) -> pd.DataFrame | None:
    if answers is None:
        return None
    if passages is None:
        raise ValueError("Answer recall looks for the answers in the passages' texts; pass the passages table too.")
    require_columns(answers, "answers", ["query_id", "answers"])
    sought = answers[answers["query_id"].isin(query_ids)]
    return None if sought.empty else sought
