"""Split the questions by what went wrong, retrieval or reading, and say what each would be worth if it never did."""

from typing import Any

import numpy as np
import pandas as pd

from ragsmith.evaluate._checks import listed, repeated, require_columns, some
from ragsmith.evaluate.estimate import estimate
from ragsmith.evaluate.significance import estimates

UNJUDGED = "unjudged"  # of a question of which no right passage is known
CATEGORIES = ("retrieved_right", "retrieved_wrong", "missed_right", "missed_wrong", "abstained")


def categories(per_query: pd.DataFrame, qrels: pd.DataFrame, *, least_score: float = 0.0) -> pd.Series:
    """The one category that each question falls into.

    abstained: no answer was given, or one that is withheld because its score is below `least_score`. Of the others,
    retrieved: a right passage is among those read; missed: none is. right: exact match; wrong: none. A question of
    `retrieved_wrong` is the reader's error, one of `missed_wrong` the retriever's; `missed_right` was luck, or a
    passage that answers and that nobody judged.

    Args:
        per_query: query_id, answer (str, empty for none), em (0 or 1), score (the reader's confidence, 0 to 1),
            passage_ids (what was read, in order; an empty list when there was nothing).
        qrels: query_id, passage_id, grade (0 is wrong, above is right).
        least_score: answers that score below are withheld; 0 withholds none.
    Returns:
        one of CATEGORIES per row, with the index of `per_query`.
    Raises:
        ValueError: a column is missing, no rows, a query twice or without right passage in the qrels, an em other
            than 0 and 1, or a missing score.
    """
    ranks = first_right_read(per_query, qrels)
    _check(per_query)
    given = per_query["answer"].fillna("").astype(str).str.strip() != ""
    answered = given & (per_query["score"].astype(float) >= least_score)
    found = np.where(ranks.notna(), "retrieved", "missed")
    judged = np.where(per_query["em"].astype(float) == 1, "_right", "_wrong")
    names = np.where(answered, np.char.add(found, judged), "abstained")
    return pd.Series(names, index=per_query.index, dtype="str", name="category")


def first_right_read(per_query: pd.DataFrame, qrels: pd.DataFrame) -> pd.Series:
    """At which rank the reader met its first right passage (1 is first; missing where it read none).

    Args:
        per_query: query_id, passage_ids.
        qrels: query_id, passage_id, grade.
    Returns:
        Int64, with the index of `per_query`.
    Raises:
        ValueError: a column is missing, no rows, or a query twice or without right passage in the qrels.
    """
    require_columns(per_query, "per_query", ["query_id", "passage_ids"])
    require_columns(qrels, "qrels", ["query_id", "passage_id", "grade"])
    if per_query.empty:
        raise ValueError("The per_query table is empty, so there is nothing to split. Read answers first.")
    if doubles := repeated(per_query, ["query_id"]):
        raise ValueError(f"The per_query table repeats query {some(double[0] for double in doubles)}; keep one row.")
    right = qrels[qrels["grade"] > 0]
    pairs = set(zip(right["query_id"], right["passage_id"], strict=True))
    if hopeless := sorted(set(per_query["query_id"]) - set(right["query_id"]), key=str):
        raise ValueError(
            f"The qrels have no right passage (grade above 0) for query {some(hopeless)}: nobody can tell whether "
            "retrieval or reading failed. Judge these queries or leave them out."
        )
    ranks = [
        next((rank for rank, passage_id in enumerate(listed(read), start=1) if (query_id, passage_id) in pairs), None)
        for query_id, read in zip(per_query["query_id"], per_query["passage_ids"], strict=True)
    ]
    return pd.Series(ranks, index=per_query.index, dtype="Int64", name="rank")


def decompose(
    per_query: pd.DataFrame, qrels: pd.DataFrame, *, least_score: float = 0.0, samples: int = 10_000, seed: int
) -> dict[str, Any]:
    """Count the questions of each category, and bound what a better retriever or reader could reach.

    Args:
        per_query: as in `categories`; and em_oracle (0 or 1) where the oracle condition was read.
        qrels: as in `categories`.
        least_score: as in `categories`. A withheld answer counts as not right, in `now` and by rank.
        samples: of the intervals.
        seed: of the intervals.
    Returns:
        queries: count; read: most passages that were read for one question;
        counts: {category: count}, which add up to `queries`;
        bounds: {now: share of right answers, perfect_retrieval: exact match when only right passages are read (None
        where that was not measured; no answer is withheld), perfect_reader: share of questions with a right passage
        among those read}, each {mean, ci95};
        by_rank: [{rank: "1" … or "not read", queries, em: {mean, ci95} of the answers given, None without queries}].
    Raises:
        ValueError: as in `categories`; fewer than two questions; or em_oracle is there for some of them only.
    """
    category = categories(per_query, qrels, least_score=least_score)
    ranks = first_right_read(per_query, qrels)
    right = category.isin(["retrieved_right", "missed_right"])
    bounds = pd.DataFrame({"now": right, "perfect_reader": ranks.notna()}, dtype=float)
    if (oracle := _oracle(per_query)) is not None:
        bounds["perfect_retrieval"] = oracle
    # Sorted by query: the intervals must not depend on the order of rows.
    bounds = bounds.iloc[per_query["query_id"].astype(str).argsort(kind="stable").to_numpy()]
    measured = estimates(bounds, samples=samples, seed=seed)
    read = max(len(listed(passage_ids)) for passage_ids in per_query["passage_ids"])
    of_rank = ranks.astype("Float64").to_numpy(dtype=float, na_value=np.nan)
    groups = [(str(rank), right[of_rank == rank]) for rank in range(1, read + 1)]
    groups.append(("not read", right[np.isnan(of_rank)]))
    return {
        "queries": len(per_query),
        "read": read,
        "counts": {name: int((category == name).sum()) for name in CATEGORIES},
        "bounds": {name: measured.get(name) for name in ("now", "perfect_retrieval", "perfect_reader")},
        "by_rank": [
            {
                "rank": rank,
                "queries": len(values),
                "em": estimate(values, samples=samples, seed=seed) if len(values) else None,
            }
            for rank, values in groups
        ],
    }


def _oracle(per_query: pd.DataFrame) -> pd.Series | None:
    if "em_oracle" not in per_query.columns or per_query["em_oracle"].isna().all():
        return None
    if lacking := per_query.loc[per_query["em_oracle"].isna(), "query_id"].tolist():
        raise ValueError(f"em_oracle is missing for query {some(lacking)}; read the oracle condition for all or none.")
    return per_query["em_oracle"].astype(float)


def _check(per_query: pd.DataFrame) -> None:
    require_columns(per_query, "per_query", ["query_id", "answer", "em", "score", "passage_ids"])
    faults = []
    if odd := per_query.loc[~per_query["em"].isin([0, 1]), "query_id"].tolist():
        faults.append(f"em is not 0 or 1 for query {some(odd)}; score the answers with score_answers.")
    if bare := per_query.loc[per_query["score"].isna(), "query_id"].tolist():
        faults.append(f"the score is missing for query {some(bare)}; an answer that was not given scores 0.")
    if faults:
        raise ValueError("Cannot split these answers:\n- " + "\n- ".join(faults))
