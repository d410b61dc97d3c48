"""`ModelSource`: a model that a run starts from, named and not written."""

from pathlib import Path
from typing import Any, Never

from kedro.io import AbstractDataset, DatasetError


class ModelSource(AbstractDataset[Never, Path]):
    """A model by its name: an installed package, a folder, a hub model. Loading gives the folder that holds it.

    Example of a catalog entry:
    ```yaml
    base_encoder:
      type: ragsmith.datasets.ModelSource
      spec: "${globals:models.encoder}"    # such as package:all-MiniLM-L6-v2
    ```
    """

    def __init__(self, *, spec: str, metadata: dict[str, Any] | None = None) -> None:
        """Name the model.

        Args:
            spec: as `ragsmith.retrieve.models.resolve_model` takes it.
            metadata: for kedro-viz and other plugins; not used here.
        """
        self._spec = spec
        self.metadata = metadata

    def load(self) -> Path:
        """The model's folder, checked.

        Raises:
            DatasetError: there is no such model, or it is truncated, altered or of an unsafe format.
        """
        from ragsmith.retrieve.models import resolve_model

        try:
            return resolve_model(self._spec)
        except ValueError as error:
            raise DatasetError(str(error)) from error

    def save(self, data: Never) -> None:
        """Refuse: a model that a run starts from is never written."""
        raise DatasetError(f"The model {self._spec!r} is an input and is never written.")

    def check(self) -> None:
        """Raise DatasetError when the model cannot be used."""
        self.load()

    def content_hash(self) -> str | None:
        """Hash of the model's files; None when it cannot be used."""
        from ragsmith.retrieve.models import model_hash

        try:
            return model_hash(self._spec)
        except ValueError:
            return None

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"spec": self._spec}
