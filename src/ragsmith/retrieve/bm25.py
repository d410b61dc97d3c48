"""Sparse search: BM25 (Robertson et al., TREC-3) through bm25s."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ragsmith.retrieve.index import run_table

if TYPE_CHECKING:
    from bm25s import BM25

WORD = re.compile(r"[^\W_]+", re.UNICODE)


def words(text: str) -> list[str]:
    """Lower-case words; dots and underscores separate, so that `shutil.disk_usage` is found by "disk usage".

    >>> words("shutil.disk_usage(path)")
    ['shutil', 'disk', 'usage', 'path']
    """
    return WORD.findall(text.lower())


@dataclass
class BM25Index:
    """BM25 over a list of passages.

    Attributes:
        passage_ids: one per text.
        texts: what is searched.
    """

    passage_ids: list[str]
    texts: list[str]
    k1: float = 1.5
    b: float = 0.75
    _scorer: "BM25" = field(init=False, repr=False)

    def __post_init__(self) -> None:
        import bm25s

        logging.getLogger("bm25s").setLevel(logging.WARNING)  # it sets itself to DEBUG
        self._scorer = bm25s.BM25(k1=self.k1, b=self.b)
        self._scorer.index([words(text) or [""] for text in self.texts], show_progress=False)

    def search(self, queries: Sequence[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k best passages of each query, of equal ones the first; none that shares no word with it.

        Returns:
            Scores (float32, best first, minus infinity where there is no more) and numbers of passages (int64, there
            -1), both of shape (queries, k).
        """
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        for position, query in enumerate(queries):
            known = [word for word in words(query) if word in self._scorer.vocab_dict]
            if not known:
                continue
            of_all = self._scorer.get_scores(known)
            if k < len(of_all):
                # All that score like the last one compete for its place: which of them wins is no chance.
                floor = max(np.partition(of_all, -k)[-k], np.nextafter(np.float32(0), np.float32(1)))
                found = np.flatnonzero(of_all >= floor)
            else:
                found = np.flatnonzero(of_all > 0)
            found = found[np.argsort(-of_all[found], kind="stable")[:k]]
            scores[position, : len(found)], rows[position, : len(found)] = of_all[found], found
        return scores, rows

    def run(self, query_ids: Sequence[str], queries: Sequence[str], k: int) -> pd.DataFrame:
        """The k best passages of each query: query_id, passage_id, score, rank; none that shares no word with it."""
        passages: list[list[str]] = []
        scores: list[list[float]] = []
        wanted = min(k, len(self.passage_ids))
        for query in queries:
            known = [word for word in words(query) if word in self._scorer.vocab_dict]
            found, found_scores = ([], [])
            if known:
                rows, values = self._scorer.retrieve([known], k=wanted, show_progress=False, n_threads=0)
                pairs = [(int(row), float(value)) for row, value in zip(rows[0], values[0], strict=True) if value > 0]
                # bm25s leaves the order of ties open.
                pairs.sort(key=lambda pair: (-pair[1], self.passage_ids[pair[0]]))
                found = [self.passage_ids[row] for row, _ in pairs]
                found_scores = [value for _, value in pairs]
            passages.append(found)
            scores.append(found_scores)
        return run_table(query_ids, passages, scores)
