"""`SourceFolder`: documents of the user's, read and never written."""

from pathlib import Path
from typing import Any, Never

from kedro.io import AbstractDataset, DatasetError

from ragsmith.datasets.artefact import local_path
from ragsmith.store import content_hash, hash_json


class SourceFolder(AbstractDataset[Never, Path]):
    """A folder of input files. Loading gives its path; a step reads it again when any file in it has changed.

    Example of a catalog entry:
    ```yaml
    source_documents:
      type: ragsmith.datasets.SourceFolder
      filepath: data/01_raw/documents
      optional: true
    ```
    """

    def __init__(self, *, filepath: str, optional: bool = False, metadata: dict[str, Any] | None = None) -> None:
        """Describe the folder.

        Args:
            filepath: local path of the folder.
            optional: a missing folder is no error; its path is given all the same.
            metadata: for kedro-viz and other plugins; not used here.
        """
        self._filepath = local_path(filepath)
        self._optional = optional
        self.metadata = metadata

    def load(self) -> Path:
        """The folder's path.

        Raises:
            DatasetError: it is missing and not optional, or it is no folder.
        """
        self.check()
        return self._filepath

    def save(self, data: Never) -> None:
        """Refuse: what a user gave is never written."""
        raise DatasetError(f"{self._filepath} is an input folder and is never written.")

    def check(self) -> None:
        """Raise DatasetError when the folder cannot be read."""
        if self._filepath.exists() and not self._filepath.is_dir():
            raise DatasetError(f"{self._filepath} is a file. Give the folder that it lies in.")
        if not self._filepath.exists() and not self._optional:
            raise DatasetError(f"There is no folder {self._filepath}. Make it and put the documents there.")

    def content_hash(self) -> str | None:
        """Hash over the files' paths and contents; None when a folder that must be there is missing."""
        if self._filepath.is_dir():
            return content_hash(self._filepath)
        return hash_json("absent") if self._optional else None

    def _exists(self) -> bool:
        return self._optional or self._filepath.is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "optional": self._optional or None}
