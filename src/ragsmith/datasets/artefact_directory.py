"""`ArtefactDirectory`: a model, an index, a bundle — anything whose own library writes a folder."""

import shutil
from pathlib import Path
from typing import Any

from kedro.io import DatasetError

from ragsmith.datasets.artefact import ArtefactDataset
from ragsmith.store import publish_directory


class ArtefactDirectory(ArtefactDataset[Path, Path]):
    """A directory. The step returns the path of a finished folder, which is copied into place; loading gives the path.

    It is copied and not moved: what the step returns may be an input, such as the base model that nothing beat, or the
    best checkpoint, from which an interrupted run goes on. Kedro's users see one artefact, whole or not there.

    Example of a catalog entry:
    ```yaml
    retriever:
      type: ragsmith.datasets.ArtefactDirectory
      filepath: data/06_models/retriever
      metadata: {kedro-viz: {layer: models}}
    ```
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        super().__init__(filepath=filepath, metadata=metadata)

    def read(self, path: Path) -> Path:
        return path

    def write(self, data: Path, path: Path) -> None:
        shutil.copytree(data, path, dirs_exist_ok=True)

    def save(self, data: Path) -> None:
        """Copy the finished folder `data` into place; see `ragsmith.store.publish_directory`.

        Raises:
            DatasetError: `data` is no folder, or lies within the target or around it.
        """
        if not isinstance(data, Path) or not data.is_dir():
            raise DatasetError(f"{self._filepath} is made from the path of a finished folder, and {data!r} is none.")
        source, target = data.resolve(), self._filepath.resolve()
        if source.is_relative_to(target) or target.is_relative_to(source):
            raise DatasetError(f"{source} overlaps {target}: let the step work in a WorkDirectory elsewhere.")
        publish_directory(self._filepath, lambda path: self.write(data, path))
