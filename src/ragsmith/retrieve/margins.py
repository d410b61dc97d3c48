"""How far below the positive a candidate must score to be taken for wrong."""

from dataclasses import dataclass

import numpy as np

from ragsmith.retrieve.exclusions import Block


@dataclass(frozen=True)
class Margins:
    """Limits on the score of a negative.

    Attributes:
        relative: at most (1 - relative) times the positive's score, and as much below a negative one (the 95 % rule of
            NV-Retriever, Moreira et al. 2024); of logits, their sigmoids are compared so. None sets no such limit.
        relaxed: relative margins tried in turn for queries that starve.
        absolute: at least this much below the positive's score.
        highest, lowest: limits whatever the positive scores.
    """

    relative: float | None = 0.05
    relaxed: tuple[float, ...] = (0.02, 0.0)
    absolute: float | None = None
    highest: float | None = None
    lowest: float | None = None

    def apply(
        self, block: Block, scores: np.ndarray, reference: np.ndarray, wanted: int, logits: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Drop the candidates of a block that may be right.

        Args:
            block: its open candidates are judged.
            scores: of the candidates, shape (queries, width).
            reference: score of each query's weakest positive: with several, each of them is an answer.
            wanted: a query starves that keeps fewer.
            logits: the scores are such, and a share of them means nothing: of a positive at 0.2, 95 % are 0.19.
        Returns:
            The relative margin that each query has ended with (NaN without one), and which queries starved at first.
        """
        missed = np.zeros(scores.shape, dtype=bool)
        far = reference - (self.absolute or 0)
        limits = [
            (scores > far[:, None] if self.absolute is not None else missed, "above_absolute_margin"),
            (scores > self.highest if self.highest is not None else missed, "above_max_score"),
            (scores < self.lowest if self.lowest is not None else missed, "below_min_score"),
        ]
        if logits:
            scores, reference = sigmoid(scores), sigmoid(reference)
        fits = block.open
        for over, _ in limits:
            fits &= ~over
        margins = np.full(len(scores), np.nan if self.relative is None else self.relative)
        within = fits & ~above(scores, reference, margins)
        counts = within.sum(axis=1)
        starved = counts < wanted
        for margin in self.relaxed if self.relative is not None else ():
            hungry = np.flatnonzero(counts < wanted)
            wider = fits[hungry] & ~above(scores[hungry], reference[hungry], np.full(len(hungry), margin))
            more = wider.sum(axis=1) > counts[hungry]
            margins[hungry[more]] = margin
            counts[hungry[more]] = wider.sum(axis=1)[more]
        block.drop(above(scores, reference, margins), "above_margin")
        for over, reason in limits:
            block.drop(over, reason)
        return margins, starved


def above(scores: np.ndarray, reference: np.ndarray, margins: np.ndarray) -> np.ndarray:
    """Which scores, shape (queries, width), are above their query's relative margin; none where it is NaN."""
    ceiling = reference - margins * np.abs(reference)
    return np.asarray(scores > np.where(np.isnan(margins), np.inf, ceiling)[:, None])


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Of each number; in float64, for in float32 all above 17 are one."""
    return np.asarray(1 / (1 + np.exp(-np.asarray(logits, dtype=np.float64))))
