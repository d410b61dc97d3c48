"""What mining looked at, what it kept, and why not the rest."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ragsmith.retrieve.exclusions import ABSENT, CODE, REASONS, Block
from ragsmith.retrieve.keys import random_numbers

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

SAMPLE_COLUMNS = ["query_id", "passage_id", "rank", "score", "cosine", "action", "reason"]
BARS = 80
COLOURS = {"positives": "#0072B2", "kept": "#D55E00", "dropped": "#888888"}  # told apart by the colour-blind


@dataclass
class Audit:
    """Counts, a histogram and samples, gathered block by block.

    Attributes:
        query_ids, passage_ids: of all queries, and of all rows of the index.
        keys: of all queries, uint64; chance decides by them which queries are shown.
        shown: how many queries are shown with all their candidates.
        seed: of chance.
    """

    query_ids: np.ndarray
    passage_ids: np.ndarray
    keys: np.ndarray
    shown: int
    seed: int
    counts: np.ndarray = field(default_factory=lambda: np.zeros(len(REASONS), dtype=np.int64))
    edges: np.ndarray | None = None
    bars: dict[str, np.ndarray] = field(default_factory=dict)
    samples: list[pd.DataFrame] = field(default_factory=list)

    def __post_init__(self) -> None:
        numbers = random_numbers(self.seed, self.keys, np.zeros(1, dtype=np.uint64))
        self.in_sample = np.zeros(len(self.keys), dtype=bool)
        self.in_sample[np.argsort(numbers, kind="stable")[: self.shown]] = True

    def add(self, block: Block, scores: np.ndarray, positive_scores: np.ndarray) -> None:
        """Count a block whose candidates have been judged; `scores` is NaN where none was needed."""
        self.counts += np.bincount(block.reasons[block.reasons != ABSENT], minlength=len(REASONS))
        kept = block.open
        judged = np.isfinite(scores) & (block.reasons != CODE["positive"]) & (block.reasons != ABSENT)
        groups = {"positives": positive_scores, "kept": scores[judged & kept], "dropped": scores[judged & ~kept]}
        if self.edges is None:
            self.edges = histogram_edges(np.concatenate(list(groups.values())))
        low, width = self.edges[0], self.edges[1] - self.edges[0]
        for name, values in groups.items():
            # What lies outside is counted in the outermost bar, so that the bars add up.
            bar = np.clip((values - low) / width, 0, BARS - 1).astype(np.int64)
            self.bars[name] = self.bars.get(name, 0) + np.bincount(bar, minlength=BARS)
        places = np.flatnonzero(self.in_sample[block.queries])
        if len(places):
            self.samples.append(self.sample(block, scores, places))

    def sample(self, block: Block, scores: np.ndarray, places: np.ndarray) -> pd.DataFrame:
        """All candidates of some of the block's queries, one row each."""
        query, column = (block.reasons[places] != ABSENT).nonzero()
        query = places[query]
        reasons = block.reasons[query, column]
        return pd.DataFrame(
            {
                "query_id": self.query_ids[block.queries[query]],
                "passage_id": self.passage_ids[block.rows[query, column]],
                "rank": column,
                "score": scores[query, column].astype(np.float64),
                "cosine": block.cosines[query, column].astype(np.float64),
                "action": np.where(reasons == CODE["kept"], "kept", "dropped").astype(object),
                "reason": np.asarray(REASONS, dtype=object)[reasons],
            },
            columns=SAMPLE_COLUMNS,
        )

    def table(self) -> pd.DataFrame:
        """The shown queries' candidates: query_id, passage_id, rank (0 is best), score, cosine, action, reason."""
        if not self.samples:
            return pd.DataFrame(columns=SAMPLE_COLUMNS)
        return pd.concat(self.samples, ignore_index=True)

    def report(self) -> dict[str, Any]:
        """Candidates looked at, why they were dropped (with those kept they add up), and the histogram of scores."""
        counts = dict(zip(REASONS, self.counts.tolist(), strict=True))
        edges = [] if self.edges is None else [round(float(edge), 6) for edge in self.edges]
        return {
            "looked_at": sum(counts.values()),
            "kept": counts.pop("kept"),
            "dropped": counts,
            "histogram": {"edges": edges} | {name: bars.tolist() for name, bars in self.bars.items()},
        }


def histogram_edges(values: np.ndarray) -> np.ndarray:
    """Edges of equal bars over all values and a fifth beyond, shape (BARS + 1,); of cosines, over [-1, 1] at most."""
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    room = max((high - low) / 5, 1e-3)
    inside = low >= -1 and high <= 1
    return np.linspace(
        max(low - room, -1) if inside else low - room, min(high + room, 1) if inside else high + room, BARS + 1
    )


def score_figure(report: dict[str, Any]) -> "Figure":
    """How positives, kept negatives and dropped candidates score, each as shares of its own number."""
    import plotly.graph_objects as go

    histogram = report["histogram"]
    edges = np.asarray(histogram["edges"])
    figure = go.Figure()
    for name, colour in COLOURS.items():
        bars = np.asarray(histogram[name], dtype=float)
        figure.add_scatter(
            x=((edges[1:] + edges[:-1]) / 2).tolist(),
            y=(bars / max(bars.sum(), 1)).tolist(),
            name=f"{name} ({int(bars.sum()):,})",
            mode="lines",
            line={"color": colour, "shape": "hvh"},
        )
    title = "Teacher's scores" if report["judged_by"] == "teacher" else "Cosines"
    figure.update_layout(
        title=f"{title} of positives, negatives and dropped candidates",
        xaxis_title="score",
        yaxis_title="share",
        template="plotly_white",
    )
    return figure
