"""What the figures of an evaluation share: colours, labels made of untrusted text, error bars, empty figures."""

import html
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# Okabe and Ito (2008): told apart with every common colour blindness, and in grey by lightness.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
_JOINERS = "\u200c\u200d"  # invisible, but Persian and emoji are spelled with them


def label(text: object, most: int = 80) -> str:
    """Text from the data as Plotly shows it: one line of bounded length, without markup or turned direction.

    Plotly draws some HTML in texts, links too, and follows marks that turn the direction of writing.

    >>> label("<b>how  now</b>")
    '&lt;b&gt;how now&lt;/b&gt;'
    """
    seen = str(text)[: 10 * most]
    seen = "".join(
        character if character in _JOINERS or not unicodedata.category(character).startswith("C") else " "
        for character in seen
    )
    words = " ".join(seen.split())
    return html.escape(words if len(words) <= most else words[: most - 1] + "…", quote=False)


def error_bars(estimates: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Bars from the lower to the upper end of each interval."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [value["ci95"][1] - value["mean"] for value in estimates],
        "arrayminus": [value["mean"] - value["ci95"][0] for value in estimates],
    }


def empty_figure(title: str, reason: str) -> "Figure":
    """A figure without data that says why."""
    from plotly import graph_objects

    figure = graph_objects.Figure()
    figure.add_annotation(text=reason, x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False)
    figure.update_layout(title=title, xaxis={"visible": False}, yaxis={"visible": False}, template="plotly_white")
    return figure
