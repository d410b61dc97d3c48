"""Write a comparison of two versions as one HTML file that opens anywhere, offline, and runs nothing."""

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from ragsmith.evaluate._page import csp_hash, environment
from ragsmith.evaluate.compare_versions import ALPHA
from ragsmith.evaluate.headline import format_p, metric_label

_MOST_ROWS = 500  # of each list: the page stays below some megabytes
_MOST_CHARACTERS = 500


def render_comparison(result: Mapping[str, Any]) -> str:
    """Render a comparison as self-contained HTML: no script at all, no external loads, one style by its hash.

    Args:
        result: as `compare_versions` returns it.
    Returns:
        the HTML document. Of each list of questions at most 500 are shown, and the page says so.
    """
    from markupsafe import Markup

    templates = resources.files("ragsmith.evaluate") / "templates"
    with resources.as_file(templates) as folder:
        pages = environment(folder)
        pages.filters.update(score=metric_label, p=format_p, value=_value)
        template = pages.get_template("comparison.html.j2")
        style = (folder / "comparison.css").read_text("utf-8")
    return template.render(
        result=result,
        alpha=ALPHA,
        most=_MOST_ROWS,
        headline=comparison_headline(result),
        style=Markup(style),  # noqa: S704 - ours, from the package
        style_hash=csp_hash(style),
    )


def comparison_headline(result: Mapping[str, Any]) -> str:
    """One sentence: in which metrics b is better or worse than a, as far as that is more than chance."""
    shown = [row for row in result["comparisons"] if row["p_holm"] < ALPHA]
    parts = []
    for word, rows in (
        ("better", [row for row in shown if row["difference"] > 0]),
        ("worse", [row for row in shown if row["difference"] < 0]),
    ):
        if rows:
            named = ", ".join(f"{metric_label(row['metric'])} {row['system']}".strip() for row in rows)
            parts.append(f"{word} in {named}")
    if not parts:
        return f"No difference is shown on {result['queries']['both']:,} questions that both have."
    return f"On {result['queries']['both']:,} questions that both have, B is {' and '.join(parts)}."


def _value(value: Any) -> str:
    if value is None:
        return "–"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 1] + "…"
