"""Sparse search: BM25 (Robertson et al., TREC-3) through bm25s."""

import logging
import re
from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field
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

    Args:
        passage_ids: one per text.
        texts: what is searched; not kept.
    """

    passage_ids: list[str]
    texts: InitVar[list[str]]
    k1: float = 1.5
    b: float = 0.75
    _scorer: "BM25" = field(init=False, repr=False)

    def __post_init__(self, texts: list[str]) -> None:
        import bm25s

        logging.getLogger("bm25s").setLevel(logging.WARNING)  # it sets itself to DEBUG
        self._scorer = bm25s.BM25(k1=self.k1, b=self.b)
        known: dict[str, str] = {}  # each word once, however often it stands somewhere
        self._scorer.index(
            [[known.setdefault(word, word) for word in words(text)] or [""] for text in texts], show_progress=False
        )

    def search(self, queries: Sequence[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k best passages of each query, of equal ones the first; none that shares no word with it.

        Returns:
            Scores (float32, best first, minus infinity where there is no more) and numbers of passages (int64, there
            -1), both of shape (queries, k).
        """
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        for position, query in enumerate(queries):
            values, found = self._best(query, k)
            order = np.argsort(-values, kind="stable")[:k]
            scores[position, : len(order)], rows[position, : len(order)] = values[order], found[order]
        return scores, rows

    def run(self, query_ids: Sequence[str], queries: Sequence[str], k: int) -> pd.DataFrame:
        """The k best passages of each query: query_id, passage_id, score, rank; none that shares no word with it.

        Of equal ones the lower id is first, however many are asked for.
        """
        passages: list[list[str]] = []
        scores: list[list[float]] = []
        for query in queries:
            values, rows = self._best(query, k)
            pairs = sorted((-float(value), self.passage_ids[row]) for value, row in zip(values, rows, strict=True))
            passages.append([passage_id for _, passage_id in pairs[:k]])
            scores.append([-value for value, _ in pairs[:k]])
        return run_table(query_ids, passages, scores)

    def _best(self, query: str, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Scores and numbers of the k best passages, and of all that score like the last of them; in their order."""
        known = [word for word in words(query) if word in self._scorer.vocab_dict]
        if not known:
            return np.empty(0, dtype=np.float32), np.empty(0, dtype=np.int64)
        of_all = self._scorer.get_scores(known)
        floor = np.nextafter(np.float32(0), np.float32(1))
        if k < len(of_all):
            # All that score like the last one compete for its place: which of them wins is no chance.
            floor = max(np.partition(of_all, -k)[-k], floor)
        found = np.flatnonzero(of_all >= floor)
        return of_all[found], found
