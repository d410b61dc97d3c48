"""Where candidates for negatives come from: ranked passages for each query, by vectors, words, both or chance."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ragsmith.compute.device import Machine
from ragsmith.retrieve.bm25 import BM25Index
from ragsmith.retrieve.keys import mix, random_numbers
from ragsmith.retrieve.top_k import Searched, pair_scores

MinerName = Literal["dense", "bm25", "hybrid", "random"]
FUSION_OFFSET = 60  # the k of reciprocal rank fusion (Cormack et al., SIGIR 2009)
SMALL_POOL = 4  # times as many passages as are drawn: below, all of them are shuffled


class Miner:
    """Ranks the passages of a pool for each query.

    Args:
        name: `dense` by cosine, `bm25` by words, `hybrid` by reciprocal rank fusion of both, `random` by chance.
        vectors: of all passages, float32, shape (passages, dimension).
        pool: the rows that may be ranked, int64, without repetition.
        texts: what BM25 reads of each passage, as many as there are vectors; not read by the others.
        seed: of chance.
        machine: where vectors are compared.
    """

    def __init__(
        self,
        name: MinerName,
        vectors: np.ndarray,
        pool: np.ndarray,
        texts: Sequence[str],
        seed: int,
        machine: Machine,
    ) -> None:
        self.name, self.vectors, self.pool, self.seed = name, vectors, pool, seed
        self.dense: Searched | None = None
        if name in ("dense", "hybrid"):
            self.dense = Searched(vectors, machine, None if len(pool) == len(vectors) else pool)
        self.sparse: BM25Index | None = None
        if name in ("bm25", "hybrid") and len(pool):
            self.sparse = BM25Index([str(row) for row in pool], [texts[row] for row in pool])

    def rank(
        self, vectors: np.ndarray, texts: Sequence[str], keys: np.ndarray, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The first k passages of each query's ranking.

        Args:
            vectors: of the queries, float32, shape (queries, dimension).
            texts: of the queries.
            keys: of the queries, uint64; chance depends on them.
            k: at least 1.
        Returns:
            Rows of the passages (int64, best first, -1 where there are no more) and cosines of query and passage
            (float32, there minus infinity), both of shape (queries, k).
        """
        if self.dense is not None and self.name == "dense":
            cosines, rows = self.dense.search(vectors, k)
            return widen(rows, k, -1), widen(cosines, k, -np.inf)
        if self.name == "random":
            rows = random_rows(self.pool, keys, k, self.seed)
        elif self.sparse is None:
            rows = np.full((len(vectors), k), -1, dtype=np.int64)
        else:
            found = self.sparse.search(texts, k)[1]
            rows = np.where(found < 0, -1, self.pool[found])
            if self.dense is not None:
                dense = self.dense.search(vectors, k)[1]
                rows = fuse(widen(dense, k, -1), rows, k)
        return rows, pair_scores(vectors, self.vectors, rows)


def random_rows(pool: np.ndarray, keys: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Passages drawn from the pool for each query, none twice, in random order.

    Args:
        pool: rows to draw from, int64.
        keys: of the queries, uint64; the same key draws the same passages.
        k: how many; where the pool has fewer, the rest is -1.
        seed: see `random_numbers`.
    Returns:
        int64, shape (queries, k).
    """
    if len(pool) <= SMALL_POOL * k:
        numbers = random_numbers(seed, keys[:, None], mix(pool.astype(np.uint64))[None, :])
        return widen(pool[np.argsort(numbers, axis=1)[:, :k]], k, -1)
    # A third more than needed: some are drawn twice. What is still missing then is drawn alike, one column each time.
    drawn = np.full((len(keys), k), -1, dtype=np.int64)
    have, begin = np.zeros(len(keys), dtype=np.int64), 0
    while len(short := np.flatnonzero(have < k)):
        columns = np.arange(begin, begin + k + k // 3 + 8, dtype=np.uint64)
        begin += len(columns)
        numbers = random_numbers(seed, keys[short, None], mix(columns)[None, :])
        both = np.concatenate([drawn[short], (numbers % np.uint64(len(pool))).astype(np.int64)], axis=1)
        order = np.argsort(both, axis=1, kind="stable")
        ordered = np.take_along_axis(both, order, axis=1)
        again = np.zeros(both.shape, dtype=bool)
        np.put_along_axis(again[:, :], order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
        first = ~again & (both >= 0)
        kept = np.argsort(~first, axis=1, kind="stable")[:, :k]
        drawn[short] = np.where(np.take_along_axis(first, kept, axis=1), np.take_along_axis(both, kept, axis=1), -1)
        have[short] = (drawn[short] >= 0).sum(axis=1)
    return np.asarray(pool[drawn])


def fuse(one: np.ndarray, other: np.ndarray, k: int) -> np.ndarray:
    """Two rankings of rows as one by summed reciprocal ranks; ties by row number.

    Args:
        one, other: rows, best first, -1 where there are no more; shape (queries, any).
        k: width of the result.

    >>> fuse(np.array([[7, 8, 9]]), np.array([[8, 5, -1]]), 5)
    array([[ 8,  7,  5,  9, -1]])
    """
    rows = np.concatenate([one, other], axis=1)
    terms = [1 / (FUSION_OFFSET + 1 + np.arange(ranking.shape[1])) for ranking in (one, other)]
    scores = np.where(rows < 0, 0, np.concatenate(terms))
    order = np.argsort(rows, axis=1, kind="stable")
    rows, scores = np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1)
    both = (rows[:, 1:] == rows[:, :-1]) & (rows[:, 1:] >= 0)
    scores[:, :-1] += np.where(both, scores[:, 1:], 0)
    scores[:, 1:][both] = 0
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    rows, scores = np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1)
    return widen(np.where(scores > 0, rows, -1), k, -1)


def widen(values: np.ndarray, width: int, filler: float) -> np.ndarray:
    """The array with columns of `filler` added on the right, up to `width`."""
    missing = width - values.shape[1]
    if missing <= 0:
        return values
    return np.pad(values, ((0, 0), (0, missing)), constant_values=filler)
