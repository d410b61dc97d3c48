"""One way to search, for training, evaluation and serving: sparse, dense or both."""

from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd

from ragsmith.retrieve.bm25 import BM25Index
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.fusion import reciprocal_rank_fusion
from ragsmith.retrieve.index import DenseIndex
from ragsmith.retrieve.passage_text import passage_inputs

Mode = Literal["bm25", "dense", "hybrid"]
MODES: tuple[Mode, ...] = ("bm25", "dense", "hybrid")
NUMBERS_AT_ONCE = 1 << 22  # of the vectors that cosines are computed of


class Searcher:
    """A dense and a sparse index over the same passages.

    Args:
        encoder: the model that made `index`.
        index: vectors of the passages.
        passages: passage_id, title, text.
        depth: candidates of each index before they are fused.
    Raises:
        ValueError: index and passages are not of the same run.
    """

    def __init__(self, encoder: Encoder, index: DenseIndex, passages: pd.DataFrame, depth: int = 100) -> None:
        if set(index.passage_ids) != set(passages["passage_id"]):
            raise ValueError("The index does not hold the same passages as the table. Build it again: kedro run.")
        index.prepare()
        self.encoder = encoder
        self.index = index
        self.depth = depth
        self._passages = passages
        self._row_of = {passage_id: row for row, passage_id in enumerate(index.passage_ids)}

    @cached_property
    def sparse(self) -> BM25Index:
        """The index of words, made when it is first asked: dense search does without."""
        return BM25Index(self._passages["passage_id"].tolist(), passage_inputs(self._passages))

    def prepare(self, mode: Mode) -> None:
        """Make now what searches of a mode need, and not when the first question waits for it."""
        if mode != "dense":
            _ = self.sparse

    def run(self, query_ids: Sequence[str], texts: Sequence[str], k: int, mode: Mode) -> pd.DataFrame:
        """The k best passages of each query.

        Returns:
            query_id, passage_id, score (of the mode), rank (1 is best), cosine (of query and passage, in each mode).
        Raises:
            ValueError: unknown mode.
        """
        if mode not in MODES:
            raise ValueError(f"Unknown search mode {mode!r}. There are: {', '.join(MODES)}.")
        vectors = self.encoder.encode(texts, "query")
        depth = max(self.depth, k) if mode == "hybrid" else k
        sparse = self.sparse.run(query_ids, texts, depth) if mode != "dense" else None
        dense = self.index.run(query_ids, vectors, depth) if mode != "bm25" else None
        found = [run for run in (sparse, dense) if run is not None]
        run = found[0] if len(found) == 1 else reciprocal_rank_fusion(found, depth=k)
        return run.assign(cosine=self.cosines(query_ids, vectors, run))

    def cosines(self, query_ids: Sequence[str], vectors: np.ndarray, run: pd.DataFrame) -> np.ndarray:
        """Cosine of each row's query and passage, float32, in the order of `run`."""
        place = {query_id: row for row, query_id in enumerate(query_ids)}
        queries = np.asarray([place[query_id] for query_id in run["query_id"]], dtype=np.int64)
        rows = np.asarray([self._row_of[passage_id] for passage_id in run["passage_id"]], dtype=np.int64)
        found = np.empty(len(run), dtype=np.float32)
        size = max(1, NUMBERS_AT_ONCE // vectors.shape[1])
        for begin in range(0, len(run), size):
            part = slice(begin, begin + size)
            found[part] = (vectors[queries[part]] * self.index.vectors[rows[part]]).sum(axis=1)
        return found
