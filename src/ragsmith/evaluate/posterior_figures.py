"""Heat maps of how much each passage weighs in an answer."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ragsmith.evaluate._checks import repeated, require_columns, some
from ragsmith.evaluate._figure_parts import empty_figure, label

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_TITLE = "Which passage the answer comes from"


def posterior_figure(posteriors: pd.DataFrame, queries: pd.DataFrame, *, most: int = 40) -> "Figure":
    """Heat map of questions (rows) and ranks of the passages read (columns); the colour is the posterior.

    Args:
        posteriors: query_id, rank (1 is first), passage_id, prior, posterior (shares, 0 to 1; each adds up to 1 for a
            query). Without rows the figure is empty and says so.
        queries: query_id, text.
        most: questions shown; of more, those are taken that lie evenly over the table.
    Raises:
        ValueError: a column is missing, a rank is there twice for a query or below 1, or a share lies outside 0 to 1.
    """
    columns = ["query_id", "rank", "passage_id", "prior", "posterior"]
    require_columns(posteriors, "posteriors", columns)
    require_columns(queries, "queries", ["query_id", "text"])
    if posteriors.empty:
        return empty_figure(_TITLE, "No reader gave the weights of its passages.")
    _check(posteriors)
    query_ids = posteriors["query_id"].unique()
    query_ids = query_ids[np.unique(np.linspace(0, len(query_ids) - 1, most).round().astype(int))]
    shown = posteriors[posteriors["query_id"].isin(query_ids)]
    texts = queries.drop_duplicates("query_id").set_index("query_id")["text"].reindex(query_ids).fillna("").tolist()
    row = pd.Index(query_ids).get_indexer(shown["query_id"])
    depth = int(shown["rank"].max())
    weights = np.full((len(query_ids), depth), np.nan)
    hover = np.full((len(query_ids), depth), "", dtype=object)
    for place, rank, passage_id, prior, posterior in zip(row, *(shown[name] for name in columns[1:]), strict=True):
        weights[place, rank - 1] = posterior
        hover[place, rank - 1] = (
            f"{label(texts[place], 160)}<br>rank {rank}, passage {label(passage_id)}"
            f"<br>prior {prior:.3f}, posterior {posterior:.3f}"
        )
    figure = _heat_map(
        weights, hover, [str(rank) for rank in range(1, depth + 1)], [label(text, 60) for text in texts]
    )
    figure.update_layout(
        title=_TITLE, xaxis_title="Rank of the passage", yaxis_title="Question", height=180 + 22 * len(texts)
    )
    return figure


def token_posterior_figure(
    tokens: Sequence[str], passage_ids: Sequence[str], weights: Sequence[Sequence[float]] | npt.NDArray[Any]
) -> "Figure":
    """Heat map of the tokens of an answer (rows) and the passages (columns) that they were generated from.

    Args:
        tokens: of the answer, in order; without any, the figure is empty and says so.
        passage_ids: in the order of retrieval.
        weights: posterior of each passage at each token, 0 to 1, shape (tokens, passages); NaN leaves a gap.
    Raises:
        ValueError: the shape is another, or a weight lies outside of 0 to 1.
    """
    if not len(tokens) or not len(passage_ids):
        return empty_figure(_TITLE, "There is no generated token, or no passage.")
    numbers = np.asarray(weights, dtype=np.float64)
    if numbers.shape != (len(tokens), len(passage_ids)):
        raise ValueError(
            f"{len(tokens)} tokens and {len(passage_ids)} passages need as many rows and columns of weights; got "
            f"shape {numbers.shape}."
        )
    if ((numbers < 0) | (numbers > 1)).any():
        raise ValueError("A weight lies outside of 0 to 1; pass shares, not logits.")
    names = [label(token, 40) or "␣" for token in tokens]
    ids = [label(passage_id, 40) for passage_id in passage_ids]
    hover = np.array(
        [
            [f"token {name}<br>passage {passage_id}<br>posterior {weight:.3f}"
             for passage_id, weight in zip(ids, row, strict=True)]
            for name, row in zip(names, numbers, strict=True)
        ],
        dtype=object,
    )  # fmt: skip
    figure = _heat_map(numbers, hover, ids, names)
    figure.update_layout(
        title="Which passage each token comes from", xaxis_title="Passage", yaxis_title="Token",
        height=180 + 22 * len(names),
    )  # fmt: skip
    return figure


def _heat_map(
    weights: npt.NDArray[np.float64], hover: npt.NDArray[np.object_], columns: list[str], rows: list[str]
) -> "Figure":
    """Cells at numbered places: two rows may bear one name."""
    from plotly import graph_objects

    figure = graph_objects.Figure(
        graph_objects.Heatmap(
            z=[[None if np.isnan(weight) else float(weight) for weight in row] for row in weights],
            text=hover.tolist(),
            hovertemplate="%{text}<extra></extra>",
            hoverongaps=False,
            colorscale="Viridis",
            zmin=0,
            zmax=1,
            colorbar={"title": "Posterior"},
        )
    )
    figure.update_layout(
        xaxis={"tickvals": list(range(len(columns))), "ticktext": columns},
        yaxis={"tickvals": list(range(len(rows))), "ticktext": rows, "autorange": "reversed", "automargin": True},
        template="plotly_white",
    )
    return figure


def _check(posteriors: pd.DataFrame) -> None:
    if doubles := repeated(posteriors, ["query_id", "rank"]):
        raise ValueError(
            f"The posteriors repeat (query_id, rank) {some(doubles)}; keep one row for each passage read."
        )
    if not (posteriors["rank"] >= 1).all():
        raise ValueError("The posteriors hold a rank below 1 or none; the first passage has rank 1.")
    shares = posteriors[["prior", "posterior"]]
    wrong = ~((shares >= 0) & (shares <= 1)).all(axis=1)
    if wrong.any():
        query_ids = posteriors.loc[wrong, "query_id"].unique()
        raise ValueError(f"A prior or posterior is missing or outside of 0 to 1, for query {some(query_ids)}.")
