"""The round trip: a query is kept only if it finds the passage that it was made from."""

import numpy as np
import pandas as pd

from ragsmith.retrieve.index import DenseIndex


def round_trip(
    queries: pd.DataFrame, vectors: np.ndarray, index: DenseIndex, top_k: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Divide queries by whether their passage is among the nearest (Promptagator's filter, Dai et al. 2022).

    Args:
        queries: query_id, text, passage_id and any other columns.
        vectors: float32, shape (queries, dimension), of the model that made `index`.
        index: holds every passage.
        top_k: how far down the passage may stand.
    Returns:
        The kept queries; and the removed ones as query_id, text, passage_id, reason. Both in the order of `queries`.
    Raises:
        ValueError: there are queries, and none is kept.
    """
    if queries.empty:
        return queries, queries[["query_id", "text", "passage_id"]].assign(reason="")
    _, rows = index.search(vectors, top_k)
    ids = np.asarray(index.passage_ids, dtype=object)
    found = (ids[rows] == queries["passage_id"].to_numpy(dtype=object)[:, None]).any(axis=1)
    if not found.any():
        raise ValueError(f"No query of {len(queries)} finds its passage among the first {top_k}. Raise top_k.")
    removed = queries.loc[~found, ["query_id", "text", "passage_id"]].reset_index(drop=True)
    removed["reason"] = f"its passage is not among the first {top_k}"
    return queries[found].reset_index(drop=True), removed


def merge_same_text(queries: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Make one query of those that ask the same in the same words: it then has several right passages.

    Args:
        queries: query_id, text, split, passage_id.
    Returns:
        The queries, each text once per split (the first stays); and all pairs of query_id and right passage_id.
    """
    keys = pd.DataFrame({"split": queries["split"], "key": queries["text"].str.casefold().str.split().str.join(" ")})
    first = queries["query_id"].groupby([keys["split"], keys["key"]]).transform("first")
    pairs = pd.DataFrame({"query_id": first, "passage_id": queries["passage_id"]}).drop_duplicates(ignore_index=True)
    return queries[first == queries["query_id"]].reset_index(drop=True), pairs
