"""Write an evaluation as one HTML file that a browser opens anywhere, offline, and that runs nothing from the data."""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd

from ragsmith.evaluate._checks import require_columns
from ragsmith.evaluate.figures import BUCKETS, rank_distribution
from ragsmith.evaluate.headline import format_p, headline, metric_label

# A person can mail and open this; at 1.5 MB the table alone holds some hundred queries with their passages.
MOST_BYTES = 1_500_000
_MOST_ROWS = 500
_MOST_CHARACTERS = 500
_COLUMNS = ("query_id", "query", "expected", "answer", "em", "f1", "passage_title", "passage_text")


def render_report(
    metrics: Mapping[str, Any], per_query: pd.DataFrame, gate: Sequence[Mapping[str, Any]], title: str
) -> str:
    """Render the report as self-contained HTML: no external loads, below 1.5 MB.

    The charts are SVG drawn by the template: Plotly's script alone weighs 4.6 MB. A content security policy lets only
    the report's own style and script run, by their hashes, so text from the data stays text even if escaping failed.

    Args:
        metrics: as `summarise` returns them.
        per_query: query_id, query, expected (list of str), answer, em, f1, passage_title, passage_text (any of these
            missing in a row where nothing was read), and for each system rank_<system> (nullable int). When there are
            too many queries, rows spread evenly over the table are shown, and the report says so.
        gate: {name, ndcg@10 (number or None), shipped (bool), reason} for each candidate of the release decision.
        title: of the page.
    Returns:
        the HTML document.
    Raises:
        ValueError: a column of `per_query` is missing, or it has no rows or no rank_<system> column.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    require_columns(per_query, "per_query", _COLUMNS)
    shares = rank_distribution(per_query)
    templates = resources.files("ragsmith.evaluate") / "templates"
    with resources.as_file(templates) as folder:
        environment = Environment(loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined)
        environment.filters.update(metric=metric_label, p=format_p)
        template = environment.get_template("report.html.j2")
        style, script = ((folder / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))

    def render(count: int) -> str:
        shown = per_query.iloc[np.unique(np.linspace(0, len(per_query) - 1, count).round().astype(int))]
        return template.render(
            title=title,
            headline=headline(metrics),
            metrics=metrics,
            facts=list(_flatten(metrics["run"])),
            names=list(dict.fromkeys(name for values in metrics["retrieval"].values() for name in values)),
            gate=gate,
            buckets=BUCKETS,
            ranks=_stack(shares),
            systems=shares["system"].unique().tolist(),
            rows=[_row(record) for record in shown.to_dict("records")],
            total=len(per_query),
            style=Markup(style),  # noqa: S704 - ours, from the package
            script=Markup(script),  # noqa: S704
            style_hash=_csp_hash(style),
            script_hash=_csp_hash(script),
        )

    count = min(len(per_query), _MOST_ROWS)
    html = render(count)
    while len(html.encode()) > MOST_BYTES and count > 1:
        count //= 2
        html = render(count)
    return html


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _flatten(facts: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """("reader.model", "…") for nested facts; lists joined by commas."""
    for key, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + str(key), ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _stack(shares: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """Segments of each system's bar: where it starts and how wide it is, in percent."""
    stacks: dict[str, list[dict[str, Any]]] = {}
    for system, table in shares.groupby("system", sort=False):
        starts = table["share"].cumsum() - table["share"]
        stacks[str(system)] = [
            {"bucket": bucket, "queries": queries, "start": 100 * start, "width": 100 * share}
            for bucket, queries, start, share in zip(
                table["bucket"], table["queries"], starts, table["share"], strict=True
            )
        ]
    return stacks


def _row(record: Mapping[Any, Any]) -> dict[str, Any]:
    """One query for the table: plain text cut to a bounded length, None for whatever is missing."""
    row: dict[str, Any] = {name: _text(record[name]) for name in ("query_id", "query", "answer")}
    row |= {name: _text(record[name]) for name in ("passage_title", "passage_text")}
    expected = record["expected"]
    several = isinstance(expected, list | tuple | np.ndarray)  # Parquet gives lists back as arrays
    row["expected"] = _text(" | ".join(map(str, expected)) if several else expected)
    row |= {name: None if pd.isna(record[name]) else float(record[name]) for name in ("em", "f1")}
    row["ranks"] = {
        str(name).removeprefix("rank_"): None if pd.isna(rank) else int(rank)
        for name, rank in record.items()
        if str(name).startswith("rank_")
    }
    return row


def _text(value: Any) -> str | None:
    if value is None or value is pd.NA or value != value:  # noqa: PLR0124 - NaN, without asking pandas for each cell
        return None
    text = str(value)
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 1] + "…"
