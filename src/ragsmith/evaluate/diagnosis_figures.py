"""Plotly figures of what holds an evaluation back: categories of error, slices, number of passages, calibration."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ragsmith.evaluate._figure_parts import COLOURS, empty_figure, error_bars, label
from ragsmith.evaluate.headline import metric_label

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_CATEGORIES = {
    "retrieved_right": ("found, answered right", "#009E73"),
    "missed_right": ("not found, yet right", "#56B4E9"),
    "abstained": ("no answer", "#b8b8b8"),
    "retrieved_wrong": ("found, answered wrong (reader)", "#E69F00"),
    "missed_wrong": ("not found, wrong (retriever)", "#D55E00"),
}
_BOUNDS = {"now": "now", "perfect_retrieval": "with perfect retrieval", "perfect_reader": "with a perfect reader"}
_NAMES = {"em": "Exact match", "f1": "F1", "answer_recall": "Answer recall"}
_SHARE = {"range": [0, 1]}


def decomposition_figure(metrics: Mapping[str, Any]) -> "Figure":
    """Above, how many questions fall into each category; below, exact match by the rank of the first right passage.

    Args:
        metrics: content of metrics.json; without `decomposition` the figure is empty and says so.
    """
    from plotly.subplots import make_subplots

    found = metrics.get("decomposition")
    if not found:
        return empty_figure("What went wrong", "The errors were not split: no answers were read.")
    figure = make_subplots(rows=2, cols=1, row_heights=[0.2, 0.8], vertical_spacing=0.22)
    for name, (text, colour) in _CATEGORIES.items():
        count = found["counts"][name]
        figure.add_bar(
            name=text,
            x=[count],
            y=["questions"],
            orientation="h",
            marker_color=colour,
            hovertemplate=f"{text}: {count:,} of {found['queries']:,} ({count / found['queries']:.1%})<extra></extra>",
            row=1,
            col=1,
        )
    ranks = [entry for entry in found["by_rank"] if entry["em"] is not None]
    figure.add_bar(
        x=[entry["rank"] for entry in ranks],
        y=[entry["em"]["mean"] for entry in ranks],
        error_y=error_bars([entry["em"] for entry in ranks]),
        customdata=[entry["queries"] for entry in ranks],
        hovertemplate="rank %{x}: exact match %{y:.3f}, %{customdata} questions<extra></extra>",
        marker_color=COLOURS[0],
        showlegend=False,
        row=2,
        col=1,
    )
    bounds = ", ".join(
        f"{text} {bound['mean']:.3f}" for name, text in _BOUNDS.items() if (bound := found["bounds"][name]) is not None
    )
    figure.update_layout(
        title=f"What went wrong: exact match {bounds}", barmode="stack", height=560, template="plotly_white",
        legend={"title": "Right passage and answer", "traceorder": "normal"},
    )  # fmt: skip
    figure.update_xaxes(title_text="Test questions", range=[0, found["queries"]], row=1, col=1)
    figure.update_yaxes(title_text="", row=1, col=1)
    figure.update_xaxes(title_text="Rank of the first right passage read", type="category", row=2, col=1)
    figure.update_yaxes(title_text="Exact match", **_SHARE, row=2, col=1)
    return figure


def slices_figure(metrics: Mapping[str, Any], metric: str = "em") -> "Figure":
    """The mean of each slice with its interval, dimension by dimension.

    Args:
        metrics: content of metrics.json; without `slices` the figure is empty and says so.
        metric: which mean; slices without it are left out.
    """
    from plotly import graph_objects

    found = metrics.get("slices")
    rows = [
        (dimension["name"], entry)
        for dimension in (found or {}).get("dimensions", [])
        for entry in dimension["slices"]
        if metric in entry
    ]
    if not rows:
        return empty_figure("Slices of the test questions", f"No slice was scored by {label(metric)}.")
    names = list(dict.fromkeys(name for name, _ in rows))
    figure = graph_objects.Figure()
    for number, name in enumerate(names):
        places = [place for place, (dimension, _) in enumerate(rows) if dimension == name]
        estimates = [rows[place][1][metric] for place in places]
        figure.add_scatter(
            name=label(name.replace("_", " ")),
            x=[value["mean"] for value in estimates],
            y=places,
            error_x=error_bars(estimates),
            mode="markers",
            cliponaxis=False,
            marker={"color": COLOURS[number % len(COLOURS)], "size": 9},
            customdata=[[label(rows[place][1]["value"]), rows[place][1]["queries"]] for place in places],
            hovertemplate="%{customdata[0]}: %{x:.3f}, %{customdata[1]} questions",
        )
    figure.update_layout(
        title="Slices of the test questions, with 95 % intervals",
        xaxis={"title": _NAMES.get(metric, metric_label(metric)), **_SHARE},
        # Numbers and not names as places: "other" is a slice of several dimensions.
        yaxis={
            "title": "Slice (questions)",
            "tickvals": list(range(len(rows))),
            "ticktext": [
                f"{label(name.replace('_', ' '))}: {label(entry['value'], 40)} ({entry['queries']:,})"
                for name, entry in rows
            ],
            "automargin": True,
            "autorange": "reversed",
        },
        legend_title="Dimension",
        height=200 + 22 * len(rows),
        template="plotly_white",
    )
    return figure


def sweep_figure(metrics: Mapping[str, Any]) -> "Figure":
    """Lines over the number of passages: one small chart per retrieval metric, and one of the answers.

    Args:
        metrics: content of metrics.json; without `sweep` the figure is empty and says so.
    """
    from plotly.subplots import make_subplots

    found = metrics.get("sweep") or {}
    retrieval, reader = found.get("retrieval") or {}, found.get("reader") or []
    kinds = list(dict.fromkeys(kind for by_kind in retrieval.values() for kind in by_kind))
    titles = [_NAMES.get(kind, metric_label(kind)) for kind in kinds] + (["Answers"] if reader else [])
    if not titles:
        return empty_figure("What more passages bring", "No number of passages but the served one was measured.")
    columns = min(3, len(titles))
    figure = make_subplots(rows=-(-len(titles) // columns), cols=columns, subplot_titles=titles)
    for number, (system, by_kind) in enumerate(retrieval.items()):
        for place, kind in enumerate(kinds):
            by_k = by_kind.get(kind, {})
            figure.add_scatter(
                name=label(system),
                legendgroup=label(system),
                showlegend=place == 0,
                x=list(by_k),
                y=list(by_k.values()),
                mode="lines+markers",
                line={"color": COLOURS[number % len(COLOURS)]},
                row=place // columns + 1,
                col=place % columns + 1,
            )
    for number, (name, text) in enumerate({"em": "exact match", "f1": "F1"}.items() if reader else ()):
        figure.add_scatter(
            name=text,
            x=[str(entry["k"]) for entry in reader],
            y=[entry[name]["mean"] for entry in reader],
            error_y=error_bars([entry[name] for entry in reader]),
            mode="lines+markers",
            line={"color": "#444444", "dash": "dot" if number else "solid"},
            row=len(kinds) // columns + 1,
            col=len(kinds) % columns + 1,
        )
    figure.update_xaxes(title_text="Passages", type="category")
    figure.update_yaxes(title_text="Mean", **_SHARE)
    figure.update_layout(
        title="What more passages bring", height=120 + 280 * -(-len(titles) // columns), legend_title="System",
        template="plotly_white",
    )  # fmt: skip
    return figure


def calibration_figure(metrics: Mapping[str, Any]) -> "Figure":
    """Left, accuracy by confidence; right, how often the answers are wrong if only the surest are given.

    Args:
        metrics: content of metrics.json; without `calibration` the figure is empty and says so.
    """
    from plotly.subplots import make_subplots

    found = metrics.get("calibration")
    if not found:
        return empty_figure(
            "Can the reader's confidence be believed?", "There is no answer whose confidence is known."
        )
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.12)
    grey, colour = {"color": "#888888", "dash": "dot"}, COLOURS[0]
    figure.add_scatter(name="calibrated", x=[0, 1], y=[0, 1], mode="lines", line=grey, hoverinfo="skip", row=1, col=1)
    figure.add_scatter(
        name="answers of like confidence",
        x=[entry["confidence"] for entry in found["bins"]],
        y=[entry["accuracy"] for entry in found["bins"]],
        customdata=[[entry["low"], entry["high"], entry["queries"]] for entry in found["bins"]],
        hovertemplate="confidence %{customdata[0]:.3f} to %{customdata[1]:.3f}: %{y:.1%} of %{customdata[2]} right",
        mode="lines+markers",
        line={"color": colour},
        row=1,
        col=1,
    )
    figure.add_scatter(
        name="wrong answers",
        x=[entry["coverage"] for entry in found["risk_coverage"]],
        y=[entry["risk"] for entry in found["risk_coverage"]],
        customdata=[entry["threshold"] for entry in found["risk_coverage"]],
        hovertemplate="from confidence %{customdata:.3f}: %{x:.1%} answered, %{y:.1%} of them wrong",
        mode="lines+markers" if len(found["risk_coverage"]) == 1 else "lines",
        line={"color": COLOURS[5]},
        row=1,
        col=2,
    )
    threshold = found.get("threshold")
    if threshold is not None and threshold["test"]["accuracy"] is not None:
        figure.add_scatter(
            name=f"threshold {threshold['value']:.3f}, chosen on dev",
            x=[threshold["test"]["coverage"]],
            y=[1 - threshold["test"]["accuracy"]],
            mode="markers",
            marker={"size": 12, "symbol": "diamond", "color": COLOURS[2]},
            row=1,
            col=2,
        )
    low, high = found["ece"]["ci95"]
    figure.update_xaxes(title_text="Confidence", **_SHARE, row=1, col=1)
    figure.update_yaxes(title_text="Share of right answers", **_SHARE, row=1, col=1)
    figure.update_xaxes(title_text="Share of questions answered", **_SHARE, row=1, col=2)
    figure.update_yaxes(title_text="Share of wrong answers", **_SHARE, row=1, col=2)
    figure.update_layout(
        title=f"Calibration error {found['ece']['mean']:.3f} ({low:.3f} to {high:.3f}), mean risk {found['aurc']:.3f}",
        template="plotly_white",
    )
    return figure
