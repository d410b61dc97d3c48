"""`WorkDirectory`: where a long step keeps what lets it go on after an interruption."""

from pathlib import Path
from typing import Any, Never

from kedro.io import AbstractDataset, DatasetError

from ragsmith.datasets.artefact import local_path


class WorkDirectory(AbstractDataset[Never, Path]):
    """A folder for checkpoints and partial results. Loading makes it and gives its path; it is never saved.

    It is no content: a step is recognised as done whatever lies here.

    Example of a catalog entry:
    ```yaml
    retriever_work:
      type: ragsmith.datasets.WorkDirectory
      filepath: data/06_models/.work/retriever
    ```
    """

    HAS_CONTENT = False

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = local_path(filepath)
        self.metadata = metadata

    def load(self) -> Path:
        """Make the folder and give its path."""
        self._filepath.mkdir(parents=True, exist_ok=True)
        return self._filepath

    def save(self, data: Never) -> None:
        """Refuse: a step writes into the folder that it loaded."""
        raise DatasetError(f"{self._filepath} is a work folder: take it as an input, and return what shall be kept.")

    def content_hash(self) -> str | None:
        """None: what lies here does not count."""
        return None

    def _exists(self) -> bool:
        return self._filepath.is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
