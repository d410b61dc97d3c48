"""The first passages of a ranking in the order of a cross-encoder."""

import numpy as np
import pandas as pd

from ragsmith.retrieve.passage_text import passage_inputs
from ragsmith.retrieve.teacher import Teacher


def rerank(
    run: pd.DataFrame, queries: pd.DataFrame, passages: pd.DataFrame, teacher: Teacher, depth: int
) -> pd.DataFrame:
    """Order the first `depth` passages of each query anew; what stood behind them is left out.

    Args:
        run: query_id, passage_id, rank, cosine.
        queries: query_id, text.
        passages: passage_id, title, text.
        teacher: the cross-encoder.
        depth: passages that it reads per query, at least 1.
    Returns:
        query_id, passage_id, score (the cross-encoder's), rank, cosine (as it was); of equal scores the one that
        stood first stays first.
    Source:
        Nogueira and Cho, 2019: Passage re-ranking with BERT.
    """
    first = run[run["rank"] <= depth].sort_values(["query_id", "rank"], kind="stable")
    place_of_query = {query_id: place for place, query_id in enumerate(queries["query_id"])}
    # Only the passages that are read: the text of a whole corpus need not be built for them.
    read = passages[passages["passage_id"].isin(first["passage_id"])]
    place_of_passage = {passage_id: place for place, passage_id in enumerate(read["passage_id"])}
    scores = teacher.score(
        queries["text"].tolist(),
        passage_inputs(read),
        np.asarray([place_of_query[query_id] for query_id in first["query_id"]], dtype=np.int64),
        np.asarray([place_of_passage[passage_id] for passage_id in first["passage_id"]], dtype=np.int64),
        "cross-encoder, pairs",
    )
    ordered = first.assign(score=scores, before=-first["rank"]).sort_values(
        ["query_id", "score", "before"], ascending=[True, False, False], kind="stable"
    )
    ordered["rank"] = ordered.groupby("query_id").cumcount() + 1
    order = {query_id: place for place, query_id in enumerate(run["query_id"].unique())}
    ordered = ordered.sort_values("query_id", key=lambda ids: ids.map(order), kind="stable")
    return ordered[["query_id", "passage_id", "score", "rank", "cosine"]].reset_index(drop=True)
