"""Pictures of a training run."""

from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def training_figure(log: pd.DataFrame, title: str) -> "Figure":
    """Loss by step (left axis) and the dev score (right axis).

    Args:
        log: kind (`train` or `dev`), step, loss, and one more column with the dev score.
        title: of the figure.
    """
    from plotly.subplots import make_subplots

    train, dev = log[log["kind"] == "train"], log[log["kind"] == "dev"]
    metric = next(name for name in dev.columns if name not in {"kind", "step"} and dev[name].notna().any())
    figure = make_subplots(specs=[[{"secondary_y": True}]])
    figure.add_scatter(x=train["step"], y=train["loss"], name="training loss", line={"color": "#888888", "width": 1})
    figure.add_scatter(
        x=dev["step"],
        y=dev[metric],
        name=f"dev {metric}",
        mode="lines+markers",
        line={"color": "#0072B2"},
        secondary_y=True,
    )
    figure.update_layout(title=title, xaxis_title="step", template="plotly_white")
    figure.update_yaxes(title_text="loss", secondary_y=False)
    figure.update_yaxes(title_text=f"dev {metric}", secondary_y=True)
    return figure
