"""Exact search: the cosine of each query with every passage."""

import numpy as np


def nearest(queries: np.ndarray, vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest passages of each query, by inner product; of equal ones, those of the lower row before the others.

    Args:
        queries: float32 unit vectors, shape (queries, dimension).
        vectors: float32 unit vectors, shape (passages, dimension).
        k: at least 1; cut to the number of passages.
    Returns:
        Scores (cosines, best first) and row numbers, both of shape (queries, k).
    """
    import faiss

    # What faiss.IndexFlatIP computes, without the copy of all vectors that it would make first.
    scores, rows = faiss.knn(
        np.ascontiguousarray(queries),
        np.ascontiguousarray(vectors),
        min(k, len(vectors)),
        metric=faiss.METRIC_INNER_PRODUCT,
    )
    # faiss gives equal ones in any order: what is first would depend on how many are asked for.
    order = np.lexsort((rows, -scores))
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)
