"""Negatives that came with the questions, beside those that were mined."""

import numpy as np
import pandas as pd


def with_given_negatives(mined: pd.DataFrame, given: pd.DataFrame, passages: pd.DataFrame) -> pd.DataFrame:
    """Put the negatives that a file of records names before the mined ones: somebody has judged them.

    Queries with a teacher's scores stay as they are: their given negatives have none.

    Args:
        mined: of `mine_hard_negatives`.
        given: query_id, passage_id, score (NaN where the file has none).
        passages: passage_id; what is not among them was a duplicate, and is left out.
    Returns:
        `mined`, each query's negatives with the given ones first, none twice and none that is a positive.
    """
    given = given[given["passage_id"].isin(passages["passage_id"])]
    if given.empty:
        return mined
    named = dict(iter(given.groupby("query_id", sort=False)))
    found = mined.copy()
    for place, row in enumerate(mined.itertuples(index=False)):
        if row.query_id not in named or len(row.teacher_scores):
            continue
        own = named[row.query_id]
        right = set(row.positive_ids)
        scores = dict(zip(own["passage_id"], own["score"], strict=True))
        scores |= {i: s for i, s in zip(row.negative_ids, row.negative_scores, strict=True) if i not in scores}
        kept = {passage_id: float(score) for passage_id, score in scores.items() if passage_id not in right}
        found.at[mined.index[place], "negative_ids"] = list(kept)
        found.at[mined.index[place], "negative_scores"] = list(np.asarray(list(kept.values()), dtype=float))
    return found
