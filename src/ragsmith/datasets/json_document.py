"""`JSONDocument`: one JSON object on disk."""

import json
from pathlib import Path
from typing import Any

from kedro.io import DatasetError
from kedro_datasets._typing import JSONPreview

from ragsmith.datasets.artefact import ArtefactDataset


class JSONDocument(ArtefactDataset[dict[str, Any], dict[str, Any]]):
    """A dictionary as an indented JSON file, for people to read and for programs.

    Example of a catalog entry:
    ```yaml
    metrics:
      type: ragsmith.datasets.JSONDocument
      filepath: data/08_reporting/metrics.json
      metadata: {kedro-viz: {layer: reporting}}
    ```
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        super().__init__(filepath=filepath, metadata=metadata)

    def read(self, path: Path) -> dict[str, Any]:
        found = json.loads(path.read_text("utf-8"))
        if not isinstance(found, dict):
            raise DatasetError(f"{path} holds a {type(found).__name__} where a JSON object is expected.")
        return found

    def write(self, data: dict[str, Any], path: Path) -> None:
        try:
            # NaN is no JSON: browsers and most other languages refuse the whole file.
            text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
        except (ValueError, TypeError) as error:
            raise DatasetError(f"What {self._filepath.name} shall hold is no JSON: {error}.") from error
        path.write_text(text + "\n", "utf-8")

    def preview(self) -> JSONPreview:
        """The document as text, for kedro-viz."""
        return JSONPreview(json.dumps(self.read(self.complete_path())))
