"""`TextDocument`: a text on disk, such as an HTML report."""

from pathlib import Path
from typing import Any

from ragsmith.datasets.artefact import ArtefactDataset


class TextDocument(ArtefactDataset[str, str]):
    """A text as a UTF-8 file; line ends stay as they are.

    Example of a catalog entry:
    ```yaml
    report:
      type: ragsmith.datasets.TextDocument
      filepath: data/08_reporting/report.html
      metadata: {kedro-viz: {layer: reporting}}
    ```
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        super().__init__(filepath=filepath, metadata=metadata)

    def read(self, path: Path) -> str:
        return path.read_bytes().decode("utf-8")

    def write(self, data: str, path: Path) -> None:
        path.write_bytes(data.encode("utf-8"))
