"""`ModelSource`: a model that a run starts from, named and not written."""

from pathlib import Path
from typing import Any, Never

from kedro.io import AbstractDataset, DatasetError

from ragsmith.store import hash_json


class ModelSource(AbstractDataset[Never, Path | None]):
    """A model by its name: an installed package, a folder, a hub model. Loading gives the folder that holds it.

    Where no model is named, loading gives None: for a model that a step can do without.

    Example of a catalog entry:
    ```yaml
    base_encoder:
      type: ragsmith.datasets.ModelSource
      spec: "${globals:models.encoder}"    # such as package:all-MiniLM-L6-v2
    ```
    """

    def __init__(self, *, spec: str | None, metadata: dict[str, Any] | None = None) -> None:
        """Name the model.

        Args:
            spec: as `ragsmith.retrieve.models.resolve_model` takes it; None for no model.
            metadata: for kedro-viz and other plugins; not used here.
        """
        self._spec = spec
        self.metadata = metadata

    def load(self) -> Path | None:
        """The model's folder, checked; None where no model is named.

        Raises:
            DatasetError: there is no such model, or it is truncated, altered or of an unsafe format.
        """
        if self._spec is None:
            return None
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
        """Hash of the model's files, or of there being none; None when it cannot be used."""
        if self._spec is None:
            return hash_json("absent")
        from ragsmith.retrieve.models import model_hash

        try:
            return model_hash(self._spec)
        except ValueError:
            return None

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"spec": self._spec}
