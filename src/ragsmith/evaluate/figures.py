"""Plotly figures of an evaluation, as Kedro-Viz previews them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from ragsmith.evaluate._checks import listed
from ragsmith.evaluate._figure_parts import COLOURS, empty_figure, error_bars
from ragsmith.evaluate.headline import metric_label

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# Ordered, so from dark to light (viridis, also safe in grey); grey stands for absence.
_BUCKET_COLOURS = {"1": "#440154", "2": "#3b528b", "3": "#21918c", "4–10": "#5ec962", "not found": "#b8b8b8"}
BUCKETS = tuple(_BUCKET_COLOURS)


def rank_distribution(per_query: pd.DataFrame) -> pd.DataFrame:
    """Count at which rank each system has its first right passage.

    Args:
        per_query: a column rank_<system> (nullable int, 1 is best) for each system; where it has right_ids (lists),
            queries with an empty one are left out.
    Returns:
        system, bucket ("1", "2", "3", "4–10", "not found": missing or below 10), queries (count), share (0 to 1);
        every bucket of every system, in order.
    Raises:
        ValueError: no column begins with rank_, or there are no rows.
    """
    columns = [column for column in per_query.columns if column.startswith("rank_")]
    per_query = judged_rows(per_query)
    if not columns or per_query.empty:
        raise ValueError("Ranks need at least one query and one column named rank_<system>, such as rank_bm25.")
    rows = []
    for column in columns:
        ranks = per_query[column].astype("Float64").fillna(float("inf")).to_numpy(dtype=float)
        buckets = pd.cut(ranks, [0, 1, 2, 3, 10, float("inf")], labels=list(BUCKETS))
        counts = pd.Series(buckets).value_counts()
        for bucket in BUCKETS:
            count = int(counts[bucket])
            rows.append((column.removeprefix("rank_"), bucket, count, count / len(per_query)))
    return pd.DataFrame(rows, columns=["system", "bucket", "queries", "share"])


def judged_rows(per_query: pd.DataFrame) -> pd.DataFrame:
    """The questions that have ranks: of one that nobody judged, a missing rank says nothing."""
    if not any(str(column).startswith("rank_") for column in per_query.columns):
        return per_query.iloc[:0]
    if "right_ids" not in per_query:
        return per_query
    return per_query[[len(listed(right)) > 0 for right in per_query["right_ids"]]]


def retrieval_figure(metrics: Mapping[str, Any]) -> "Figure":
    """Bars of each retrieval metric by system, with 95 % intervals.

    Args:
        metrics: as `summarise` returns them.
    """
    from plotly import graph_objects

    figure = graph_objects.Figure()
    for position, (system, by_metric) in enumerate(metrics["retrieval"].items()):
        estimates = list(by_metric.values())
        figure.add_bar(
            name=system,
            x=[metric_label(name) for name in by_metric],
            y=[value["mean"] for value in estimates],
            marker_color=COLOURS[position % len(COLOURS)],
            error_y=error_bars(estimates),
        )
    figure.update_layout(
        title=f"Retrieval on {metrics['queries']['test']:,} test queries, with 95 % intervals",
        xaxis_title="Metric",
        yaxis={"title": "Mean over queries", "range": [0, 1]},
        legend_title="System",
        barmode="group",
        template="plotly_white",
    )
    return figure


def rank_figure(per_query: pd.DataFrame) -> "Figure":
    """Stacked bars: at which rank each system has its first right passage.

    Args:
        per_query: as in `rank_distribution`; without judged questions the figure is empty and says so.
    """
    from plotly import graph_objects

    if judged_rows(per_query).empty:
        return empty_figure("Rank of the first right passage", "No question has a passage that was judged right.")
    counts = rank_distribution(per_query)
    figure = graph_objects.Figure()
    for bucket, colour in _BUCKET_COLOURS.items():
        rows = counts[counts["bucket"] == bucket]
        figure.add_bar(
            name=bucket,
            y=rows["system"].tolist(),
            x=(100 * rows["share"]).tolist(),
            customdata=rows["queries"].tolist(),
            hovertemplate="%{y}: %{customdata} queries (%{x:.1f} %)",
            orientation="h",
            marker_color=colour,
        )
    figure.update_layout(
        title="Rank of the first right passage (not found: not among the first 10)",
        xaxis={"title": "Share of test queries (%)", "range": [0, 100]},
        yaxis={"title": "System", "autorange": "reversed"},
        legend={"title": "Rank", "traceorder": "normal"},
        barmode="stack",
        template="plotly_white",
    )
    return figure
