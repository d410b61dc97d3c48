"""Score rankings per query: nDCG, MRR, recall, precision, MAP and hit rate at any number of depths."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ragsmith.evaluate._checks import repeated, require_columns, some
from ragsmith.evaluate._ranking import Numbers, number_run
from ragsmith.retrieve.index import RUN_COLUMNS

# Our name -> name in pytrec_eval, which knows no depth for the reciprocal rank.
_MEASURES = {
    "ndcg": "ndcg_cut_{}",
    "mrr": "recip_rank",
    "recall": "recall_{}",
    "precision": "P_{}",
    "map": "map_cut_{}",
    "hit": "success_{}",
}
_METRIC = re.compile(r"([a-z]+)@([1-9][0-9]*)")


def score_matrix(
    run: pd.DataFrame, qrels: pd.DataFrame, metrics: Sequence[str], passages: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Score a run for each query of the qrels on all metrics in one pass, by trec_eval's definitions.

    A query for which the run holds nothing scores 0, and has its row like any other: leaving it out would reward a
    system for giving up on what it finds hard. A run that holds nothing at all is an error.

    Args:
        run: query_id, passage_id (both str), score, rank (1, 2, 3 … within each query; 1 is best). The rank decides
            the order, also between equal scores; the score is only checked.
        qrels: query_id, passage_id (both str), grade (int; 0 is wrong, above is right, and nDCG's gain).
        metrics: names such as "ndcg@10": ndcg, mrr, recall, precision, map or hit, at a depth of at least 1.
        passages: passage_id; where given, run and qrels may name no other passages.
    Returns:
        a row per query, indexed by query_id as they first appear in `qrels`; a column per metric (0 to 1), as passed.
    Raises:
        ValueError: an unknown metric; qrels that are empty, repeat a pair, hold a grade that is negative or no whole
            number, or leave a query without right passage; a run that is empty, repeats a pair, lacks an id, has NaN
            scores, ranks other than 1, 2, 3 …, or queries that the qrels lack; a passage that `passages` lacks. All
            faults of the tables are told at once.
    Source:
        Järvelin and Kekäläinen, TOIS 2002, for nDCG with log2 discount; computed by pytrec_eval, which is trec_eval.
    """
    parsed = [parse_metric(name) for name in metrics]
    judged = _match(run, qrels, passages)
    values = _evaluate(judged, parsed) if parsed else np.empty((len(judged.query_ids), 0))
    return pd.DataFrame(values, index=judged.query_ids, columns=list(metrics))


def score_run(
    run: pd.DataFrame,
    qrels: pd.DataFrame,
    metrics: Sequence[str] = ("ndcg@10", "mrr@10", "recall@10"),
    passages: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """As `score_matrix`, as a long table: for few metrics, and where systems are put below each other.

    Args:
        run, qrels, metrics, passages: as in `score_matrix`.
    Returns:
        query_id, metric, value (0 to 1); queries as they first appear in `qrels`, metrics as passed.
    Raises:
        ValueError: as in `score_matrix`.
    """
    return lengthen(score_matrix(run, qrels, metrics, passages))


def lengthen(matrix: pd.DataFrame) -> pd.DataFrame:
    """A matrix of scores as a long table.

    Args:
        matrix: indexed by query_id, a column per metric.
    Returns:
        query_id, metric, value; query by query, metrics in the order of the columns.
    """
    queries, metrics = matrix.shape
    return pd.DataFrame(
        {
            "query_id": matrix.index.repeat(metrics),
            "metric": np.tile(matrix.columns.to_numpy(dtype=object), queries),
            "value": matrix.to_numpy(dtype=np.float64).ravel(),
        }
    )


def first_right_ranks(run: pd.DataFrame, qrels: pd.DataFrame) -> pd.DataFrame:
    """Find at which rank each query meets its first right passage.

    Args:
        run: as in `score_matrix`.
        qrels: as in `score_matrix`.
    Returns:
        query_id, rank (Int64; missing where the run holds no right passage); queries as they first appear in `qrels`.
    Raises:
        ValueError: as in `score_matrix`, for the tables.
    """
    judged = _match(run, qrels, None)
    found = (judged.grade > 0) & (judged.rank > 0)
    first = np.full(len(judged.query_ids), np.iinfo(np.int64).max)
    np.minimum.at(first, judged.query[found], judged.rank[found])
    rank = pd.array(first, dtype="Int64")
    rank[first == np.iinfo(np.int64).max] = pd.NA
    return pd.DataFrame({"query_id": judged.query_ids, "rank": rank})


def parse_metric(name: str) -> tuple[str, int]:
    """Kind and depth of a metric such as "ndcg@10".

    Raises:
        ValueError: there is no such metric.
    """
    match = _METRIC.fullmatch(name)
    if match is None or match[1] not in _MEASURES:
        valid = ", ".join(f"{kind}@k" for kind in _MEASURES)
        raise ValueError(f"Unknown metric {name!r}. Use one of {valid}, with k at least 1, such as ndcg@10.")
    return match[1], int(match[2])


@dataclass(frozen=True)
class _Judged:
    """What a score depends on: where the judged passages stand, and how many others stand between them.

    Attributes:
        query_ids: of the qrels, as they first appear.
        query, grade, rank: a row per judgement; rank is 0 where the run lacks the passage.
        depth: number of passages in the run, for each of `query_ids`.
    """

    query_ids: "pd.Index[Any]"
    query: Numbers
    grade: Numbers
    rank: Numbers
    depth: Numbers


def _evaluate(judged: _Judged, parsed: Sequence[tuple[str, int]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Values, a row per query and a column per metric; 0 where the run has no row for the query."""
    import pytrec_eval

    deepest = max(k for _, k in parsed)
    columns = [_MEASURES[kind].format(k) for kind, k in parsed]
    # A passage is called by its rank here, so that all queries share one ranking: a million ids need not be handed
    # over. pytrec_eval sorts by score, held as a 32-bit float, and breaks ties by id: equal or nearly equal scores
    # would be judged in an order that nobody was served. The negated rank has no ties, so our own ranking is judged.
    rankings = {
        depth: {str(rank): -float(rank) for rank in range(1, depth + 1)}
        for depth in np.unique(np.minimum(judged.depth, deepest)).tolist()
    }
    grades: dict[str, dict[str, int]] = {str(query): {} for query in range(len(judged.query_ids))}
    rows = zip(judged.query.tolist(), judged.rank.tolist(), judged.grade.tolist(), strict=True)
    for row, (query, rank, grade) in enumerate(rows):
        grades[str(query)][str(rank) if 0 < rank <= deepest else f"missed {row}"] = grade
    depths = enumerate(np.minimum(judged.depth, deepest).tolist())
    ranked = {str(query): rankings[depth] for query, depth in depths if depth}
    values = np.zeros((len(judged.query_ids), len(parsed)))
    for query, found in pytrec_eval.RelevanceEvaluator(grades, set(columns)).evaluate(ranked).items():
        values[int(query)] = [found[column] for column in columns]
    for position, (kind, k) in enumerate(parsed):
        if kind == "mrr":  # first right passage below rank k; .5 keeps clear of rounding
            values[values[:, position] < 1 / (k + 0.5), position] = 0.0
    return values


def _match(run: pd.DataFrame, qrels: pd.DataFrame, passages: pd.DataFrame | None) -> _Judged:
    """Find every judged passage in the run, or say all that is wrong with the tables."""
    require_columns(run, "run", RUN_COLUMNS)
    require_columns(qrels, "qrels", ["query_id", "passage_id", "grade"])
    if qrels.empty:
        raise ValueError("The qrels are empty, so there is nothing to score. Check the split they come from.")
    ranking, run_faults = number_run(run)
    query, query_ids = pd.factorize(qrels["query_id"])
    position = query_ids.get_indexer(ranking.query_ids)
    faults = [*_qrels_faults(qrels), *run_faults]
    if (position < 0).any():
        unknown = sorted(ranking.query_ids[position < 0], key=str)
        faults.append(f"run has queries that the qrels lack: {some(unknown)}; check that both are of one split.")
    if passages is not None:
        require_columns(passages, "passages", ["passage_id"])
        faults += _unknown_passages("qrels", pd.Index(qrels["passage_id"].unique()), passages)
        faults += _unknown_passages("run", ranking.passage_ids, passages)
    if faults:
        raise ValueError("Cannot score this run:\n- " + "\n- ".join(faults))
    passage = ranking.passage_ids.get_indexer(qrels["passage_id"])  # −1: nobody retrieved it
    pairs = np.where(passage < 0, -1 - np.arange(len(qrels)), query * len(ranking.passage_ids) + passage)
    row = pd.Index(pairs).get_indexer(position[ranking.query] * len(ranking.passage_ids) + ranking.passage)
    rank = np.zeros(len(qrels), dtype=np.int64)
    rank[row[row >= 0]] = ranking.rank[row >= 0]
    depth = np.bincount(position[ranking.query], minlength=len(query_ids))
    return _Judged(query_ids, query, qrels["grade"].to_numpy(dtype=np.int64), rank, depth)


def _qrels_faults(qrels: pd.DataFrame) -> list[str]:
    faults = []
    if count := int(qrels[["query_id", "passage_id"]].isna().any(axis=1).sum()):
        faults.append(f"qrels have {count} rows without query_id or passage_id; drop them, or give them ids.")
    if doubles := repeated(qrels, ["query_id", "passage_id"]):
        faults.append(f"qrels repeat (query_id, passage_id) {some(doubles)}; keep one grade for each pair.")
    if (count := int((~(qrels["grade"] >= 0)).sum())) > 0:  # not "< 0", which lets a missing grade pass
        faults.append(f"qrels hold {count} negative or missing grades; use 0 for a wrong passage.")
    elif (count := int((qrels["grade"] % 1 != 0).sum())) > 0:
        faults.append(f"qrels hold {count} grades that are no whole numbers; trec_eval knows whole gains only.")
    best = qrels.groupby("query_id", sort=False)["grade"].max()
    if hopeless := best.index[best == 0].tolist():
        faults.append(f"qrels have no right passage (grade above 0) for query {some(hopeless)}; drop these queries.")
    return faults


def _unknown_passages(name: str, passage_ids: "pd.Index[Any]", passages: pd.DataFrame) -> list[str]:
    unknown = passage_ids[~passage_ids.isin(passages["passage_id"])].tolist()
    return [f"{name} name passages that the passages table lacks: {some(unknown)}; make them anew."] if unknown else []
