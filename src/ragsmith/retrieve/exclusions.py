"""Which passages can never be negatives of a query, whatever they score."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ragsmith.retrieve.keys import equality_keys
from ragsmith.retrieve.near_duplicates import Sketches

# Why a candidate is no negative, in the order in which it is asked; its code is its place here.
REASONS = (
    "kept",
    "skipped_rank",
    "positive",
    "same_text",
    "same_section",
    "same_document",
    "near_duplicate",
    "not_rescored",
    "above_margin",
    "above_absolute_margin",
    "above_max_score",
    "below_min_score",
    "not_needed",
)
CODE = {reason: np.uint8(code) for code, reason in enumerate(REASONS)}
ABSENT = np.uint8(255)  # no candidate stands here: the ranking was shorter


@dataclass
class Block:
    """Some queries and their candidates.

    Attributes:
        queries: their numbers, int64, shape (queries,).
        rows: the candidates' rows in the index, int64, best first, -1 where there is none; shape (queries, width).
        cosines: of query and candidate, float32, same shape.
        reasons: codes of `REASONS`, uint8, same shape.
        positive_of, positives: the query's place in `queries` and the row of each positive, one query after another.
        positive_cosines: float32, one per positive.
    """

    queries: np.ndarray
    rows: np.ndarray
    cosines: np.ndarray
    reasons: np.ndarray
    positive_of: np.ndarray
    positives: np.ndarray
    positive_cosines: np.ndarray

    @property
    def open(self) -> np.ndarray:
        """Where a candidate has not been dropped, bool."""
        return np.asarray(self.reasons == CODE["kept"])

    def drop(self, where: np.ndarray, reason: str) -> None:
        """Drop the candidates in `where` that have no other reason yet."""
        self.reasons[where & self.open] = CODE[reason]


class Exclusions:
    """Drops what is, or says the same as, or stands beside an answer.

    Args:
        passages: document_id, title, text, one row per row of the index.
        query_texts: of all queries.
        same_document: drop the other passages of a positive's document.
        same_section: drop the other pieces of a positive's section: the passages of its document with its title.
        near_duplicate: drop what has at least this Jaccard similarity to a positive; None drops equal texts only.
    """

    def __init__(
        self,
        passages: pd.DataFrame,
        query_texts: list[str],
        same_document: bool,
        near_duplicate: float | None,
        same_section: bool = True,
    ) -> None:
        texts = passages["text"].tolist()
        self.documents = passages["document_id"].factorize()[0]
        # Codes, and not pairs of texts: a table of tuples takes a hundred times their memory.
        titles = passages["title"].factorize()[0].astype(np.int64)
        self.sections = self.documents * (titles.max(initial=0) + 1) + titles
        self.texts, self.query_texts = equality_keys(texts), equality_keys(query_texts)
        self.same_document, self.near_duplicate, self.same_section = same_document, near_duplicate, same_section
        self.sketches = None if near_duplicate is None else Sketches(texts)

    def apply(self, block: Block) -> None:
        """Drop what is excluded for each query of the block."""
        texts = self.texts[block.rows]
        equal, is_positive = texts == self.query_texts[block.queries, None], np.zeros(block.rows.shape, dtype=bool)
        section, document = is_positive.copy(), is_positive.copy()
        sections = self.sections[block.rows]
        documents = self.documents[block.rows] if self.same_document else None
        for places, rows in self.rounds(block):
            is_positive[places] |= block.rows[places] == rows[:, None]
            equal[places] |= texts[places] == self.texts[rows, None]
            section[places] |= sections[places] == self.sections[rows, None]
            if documents is not None:
                document[places] |= documents[places] == self.documents[rows, None]
        block.drop(is_positive, "positive")
        block.drop(equal, "same_text")
        if self.same_section:
            block.drop(section, "same_section")
        block.drop(document, "same_document")
        if self.sketches is not None and self.near_duplicate is not None:
            for places, rows in self.rounds(block):
                query, column = block.open[places].nonzero()
                like = self.sketches.similarity(block.rows[places[query], column], rows[query])
                near = like >= self.near_duplicate
                block.reasons[places[query[near]], column[near]] = CODE["near_duplicate"]

    @staticmethod
    def rounds(block: Block) -> list[tuple[np.ndarray, np.ndarray]]:
        """The first positive of each query, the second of each that has two, and so on: places and rows."""
        counts = np.bincount(block.positive_of, minlength=len(block.queries))
        number = np.arange(len(block.positives)) - np.repeat(np.cumsum(counts) - counts, counts)
        return [
            (block.positive_of[number == turn], block.positives[number == turn])
            for turn in range(int(counts.max(initial=0)))
        ]
