"""What came with the questions: negatives, beside those that were mined, and a teacher's scores."""

from collections.abc import Callable

import numpy as np
import pandas as pd


def with_given_negatives(
    mined: pd.DataFrame,
    given: pd.DataFrame,
    passages: pd.DataFrame,
    score: Callable[[list[str], list[str]], np.ndarray] | None = None,
) -> tuple[pd.DataFrame, int]:
    """Put the negatives that a file of records names before the mined ones: somebody has judged them.

    Args:
        mined: see `Mined.table`.
        given: query_id, passage_id, score (NaN where the file has none).
        passages: passage_id; what is not among them was a duplicate, and is left out.
        score: the teacher's score of each pair of query and passage ids; None where `mined` has no teacher's scores.
    Returns:
        `mined`, each query's negatives with the given ones first, none twice and none that is a positive; and how many
        of the given ones are in it.
    """
    right = dict(zip(mined["query_id"], mined["positive_ids"], strict=True))
    given = given[given["passage_id"].isin(passages["passage_id"]) & given["query_id"].isin(mined["query_id"])]
    wrong = [
        passage_id not in right[query_id]
        for query_id, passage_id in zip(given["query_id"], given["passage_id"], strict=True)
    ]
    given = given[np.asarray(wrong, dtype=bool)].drop_duplicates(["query_id", "passage_id"])
    if given.empty:
        return mined, 0
    if score is not None:
        given = given.assign(taught=score(given["query_id"].tolist(), given["passage_id"].tolist()))
    named = dict(iter(given.groupby("query_id", sort=False)))
    found = mined.copy()
    for place, row in zip(mined.index, mined.itertuples(index=False), strict=True):
        if row.query_id not in named:
            continue
        own = named[row.query_id]
        names = own["passage_id"].tolist()
        others = [number for number, passage_id in enumerate(row.negative_ids) if passage_id not in set(names)]
        found.at[place, "negative_ids"] = names + [row.negative_ids[number] for number in others]
        found.at[place, "negative_scores"] = own["score"].astype(float).tolist() + [
            row.negative_scores[number] for number in others
        ]
        if score is not None:
            positives = len(row.positive_ids)
            found.at[place, "teacher_scores"] = (
                list(row.teacher_scores[:positives])
                + own["taught"].astype(float).tolist()
                + [row.teacher_scores[positives + number] for number in others]
            )
    return found, len(given)


def with_given_scores(
    mined: pd.DataFrame, given: pd.DataFrame, positive_scores: pd.DataFrame
) -> tuple[pd.DataFrame, int]:
    """Teach the queries whose right passages a file of records has scored, with its scores.

    Mined negatives have no score by that teacher: theirs is NaN, and whoever learns from scores leaves them out.

    Args:
        mined: see `Mined.table`; without a teacher's scores.
        given: query_id, passage_id, score: of negatives.
        positive_scores: the same, of right passages.
    Returns:
        `mined` with teacher_scores of the queries whose positives are all scored; and how many these are.
    """
    right = scores_by_query(positive_scores)
    wrong = scores_by_query(given[given["query_id"].isin(right)])
    taught = []
    for row in mined.itertuples(index=False):
        scores = right.get(row.query_id, {})
        if scores.keys() >= {*row.positive_ids}:
            others = wrong.get(row.query_id, {})
            taught.append(
                [scores[name] for name in row.positive_ids] + [others.get(name, np.nan) for name in row.negative_ids]
            )
        else:
            taught.append([])
    return mined.assign(teacher_scores=taught), sum(map(bool, taught))


def scores_by_query(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The score of each passage id by query id."""
    scores: dict[str, dict[str, float]] = {}
    for row in table.itertuples(index=False):
        scores.setdefault(row.query_id, {})[row.passage_id] = float(row.score)
    return scores
