"""Score rankings per query: nDCG, MRR, recall, precision, MAP and hit rate at a depth."""

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pandas as pd

from ragsmith.evaluate._checks import repeated, require_columns, some

# Our name -> (measure of ir_measures, whether it knows a depth when pytrec_eval computes it).
_MEASURES: dict[str, tuple[str, bool]] = {
    "ndcg": ("nDCG", True),
    "mrr": ("RR", False),
    "recall": ("R", True),
    "precision": ("P", True),
    "map": ("AP", True),
    "hit": ("Success", True),
}
_METRIC = re.compile(r"([a-z]+)@([1-9][0-9]*)")


def score_run(
    run: pd.DataFrame, qrels: pd.DataFrame, metrics: Sequence[str] = ("ndcg@10", "mrr@10", "recall@10")
) -> pd.DataFrame:
    """Score a run for each query of the qrels, by trec_eval's definitions.

    A query for which the run holds nothing scores 0, and has its rows like any other: leaving it out would reward a
    system for giving up on what it finds hard.

    Args:
        run: query_id, passage_id (both str), score, rank (1, 2, 3 … within each query; 1 is best). The rank decides
            the order; the score is only checked.
        qrels: query_id, passage_id (both str), grade (int; 0 is wrong, above is right, and nDCG's gain).
        metrics: names such as "ndcg@10": ndcg, mrr, recall, precision, map or hit, at a depth of at least 1.
    Returns:
        query_id, metric, value (0 to 1); queries as they first appear in `qrels`, metrics as passed.
    Raises:
        ValueError: an unknown metric; qrels that are empty, repeat a pair, hold a negative grade or leave a query
            without right passage; a run that repeats a pair, has NaN scores, ranks other than 1, 2, 3 …, or queries
            that the qrels lack. All faults of the tables are told at once.
    Source:
        Järvelin and Kekäläinen, TOIS 2002, for nDCG with log2 discount; computed by pytrec_eval through ir_measures.
    """
    parsed = [_parse_metric(name) for name in metrics]
    _check_tables(run, qrels)
    depth = max((k for _, k in parsed), default=0)
    values = _evaluate(run[run["rank"] <= depth], qrels, parsed)
    query_ids = qrels["query_id"].unique()
    rows = [(query_id, name, values[name, query_id]) for query_id in query_ids for name in metrics]
    return pd.DataFrame(rows, columns=["query_id", "metric", "value"])


def first_right_ranks(run: pd.DataFrame, qrels: pd.DataFrame) -> pd.DataFrame:
    """Find at which rank each query meets its first right passage.

    Args:
        run: as in `score_run`.
        qrels: as in `score_run`.
    Returns:
        query_id, rank (Int64; missing where the run holds no right passage); queries as they first appear in `qrels`.
    Raises:
        ValueError: as in `score_run`, for the tables.
    """
    _check_tables(run, qrels)
    right = qrels.loc[qrels["grade"] > 0, ["query_id", "passage_id"]]
    first = run.merge(right, on=["query_id", "passage_id"]).groupby("query_id")["rank"].min()
    query_ids = qrels["query_id"].drop_duplicates(ignore_index=True)
    return pd.DataFrame({"query_id": query_ids, "rank": query_ids.map(first).astype("Int64")})


def _parse_metric(name: str) -> tuple[str, int]:
    match = _METRIC.fullmatch(name)
    if match is None or match[1] not in _MEASURES:
        valid = ", ".join(f"{kind}@k" for kind in _MEASURES)
        raise ValueError(f"Unknown metric {name!r}. Use one of {valid}, with k at least 1, such as ndcg@10.")
    return match[1], int(match[2])


def _evaluate(
    run: pd.DataFrame, qrels: pd.DataFrame, parsed: Sequence[tuple[str, int]]
) -> dict[tuple[str, str], float]:
    """Values by (metric name, query id), 0 where the run has no row for the query."""
    import ir_measures

    measures: dict[Any, list[tuple[str, int]]] = defaultdict(list)
    for kind, k in parsed:
        name, knows_depth = _MEASURES[kind]
        measure = getattr(ir_measures, name)
        measures[measure @ k if knows_depth else measure].append((kind, k))
    grades: dict[str, dict[str, int]] = defaultdict(dict)
    for query_id, passage_id, grade in zip(qrels["query_id"], qrels["passage_id"], qrels["grade"], strict=True):
        grades[query_id][passage_id] = int(grade)
    # pytrec_eval sorts by score, held as a 32-bit float, and breaks ties by passage id: equal or nearly equal scores
    # would be judged in an order that nobody was served. The negated rank has no ties, so our own ranking is judged.
    ranking: dict[str, dict[str, float]] = defaultdict(dict)
    for query_id, passage_id, rank in zip(run["query_id"], run["passage_id"], run["rank"], strict=True):
        ranking[query_id][passage_id] = -float(rank)

    values: dict[tuple[str, str], float] = {}
    for result in ir_measures.pytrec_eval.evaluator(list(measures), grades).iter_calc(ranking):
        for kind, k in measures[result.measure]:
            value = float(result.value)
            if kind == "mrr" and value < 1 / (k + 0.5):  # first right passage below rank k; .5 keeps clear of rounding
                value = 0.0
            values[f"{kind}@{k}", result.query_id] = value
    return values


def _check_tables(run: pd.DataFrame, qrels: pd.DataFrame) -> None:
    require_columns(run, "run", ["query_id", "passage_id", "score", "rank"])
    require_columns(qrels, "qrels", ["query_id", "passage_id", "grade"])
    if qrels.empty:
        raise ValueError("The qrels are empty, so there is nothing to score. Check the split they come from.")
    faults = [*_qrels_faults(qrels), *_run_faults(run, qrels)]
    if faults:
        raise ValueError("Cannot score this run:\n- " + "\n- ".join(faults))


def _qrels_faults(qrels: pd.DataFrame) -> list[str]:
    faults = []
    if doubles := repeated(qrels, ["query_id", "passage_id"]):
        faults.append(f"qrels repeat (query_id, passage_id) {some(doubles)}; keep one grade for each pair.")
    if (count := int((~(qrels["grade"] >= 0)).sum())) > 0:  # not "< 0", which lets a missing grade pass
        faults.append(f"qrels hold {count} negative or missing grades; use 0 for a wrong passage.")
    best = qrels.groupby("query_id", sort=False)["grade"].max()
    if hopeless := best.index[best == 0].tolist():
        faults.append(f"qrels have no right passage (grade above 0) for query {some(hopeless)}; drop these queries.")
    return faults


def _run_faults(run: pd.DataFrame, qrels: pd.DataFrame) -> list[str]:
    faults = []
    if doubles := repeated(run, ["query_id", "passage_id"]):
        faults.append(f"run repeats (query_id, passage_id) {some(doubles)}; a passage takes one rank for a query.")
    if count := int(run["score"].isna().sum()):
        queries = run.loc[run["score"].isna(), "query_id"].unique()
        faults.append(f"run holds {count} NaN scores, for query {some(queries)}; look at the system that made it.")
    if unknown := sorted(set(run["query_id"]) - set(qrels["query_id"]), key=str):
        faults.append(f"run has queries that the qrels lack: {some(unknown)}; check that both are of one split.")
    ordered = run.sort_values(["query_id", "rank"])
    wrong = ordered["rank"] != ordered.groupby("query_id").cumcount() + 1
    if wrong.any():
        queries = ordered.loc[wrong, "query_id"].unique()
        faults.append(f"run has ranks other than 1, 2, 3 … for query {some(queries)}; number its passages anew.")
    return faults
