"""`PlotlyFigure`: a chart that kedro-viz shows."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro_datasets._typing import PlotlyPreview

from ragsmith.datasets.artefact import ArtefactDataset

if TYPE_CHECKING:
    from plotly.graph_objects import Figure
else:
    Figure = Any


class PlotlyFigure(ArtefactDataset["Figure", "Figure"]):
    """A Plotly figure as its JSON file.

    Example of a catalog entry:
    ```yaml
    retrieval_figure:
      type: ragsmith.datasets.PlotlyFigure
      filepath: data/08_reporting/retrieval.plotly.json
      metadata: {kedro-viz: {layer: reporting}}
    ```
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        super().__init__(filepath=filepath, metadata=metadata)

    def read(self, path: Path) -> "Figure":
        import plotly.io

        return plotly.io.from_json(path.read_text("utf-8"))

    def write(self, data: "Figure", path: Path) -> None:
        path.write_text(data.to_json(), "utf-8")

    def preview(self) -> PlotlyPreview:
        """The figure's JSON, for kedro-viz; Plotly itself is not imported."""
        return PlotlyPreview(json.loads(self.complete_path().read_text("utf-8")))
