"""Pictures of a training run."""

from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def training_figure(log: pd.DataFrame, title: str) -> "Figure":
    """Loss by step (left axis) and the dev score (right axis); the stages of a curriculum one after the other.

    Args:
        log: kind (`train` or `dev`), step, loss, a column with the dev score before any other figure of dev, and
            `stage` where steps are counted from each stage's beginning.
        title: of the figure.
    """
    from plotly.subplots import make_subplots

    begins: dict[str, int] = {}
    if "stage" in log:
        lengths = log.groupby("stage", sort=False)["step"].max()
        begins = dict(zip(lengths.index, lengths.cumsum() - lengths, strict=True))
        log = log.assign(step=log["step"] + log["stage"].map(begins))
    train, dev = log[log["kind"] == "train"], log[log["kind"] == "dev"]
    metric = next(name for name in dev.columns if name not in {"stage", "kind", "step"} and dev[name].notna().any())
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
    for stage, begin in begins.items() if len(begins) > 1 else ():
        figure.add_vline(x=begin, line={"color": "#bbbbbb", "dash": "dot"}, annotation_text=stage)
    figure.update_layout(title=title, xaxis_title="step", template="plotly_white")
    figure.update_yaxes(title_text="loss", secondary_y=False)
    figure.update_yaxes(title_text=f"dev {metric}", secondary_y=True)
    return figure
