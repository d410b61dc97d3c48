"""What all datasets of artefacts share: saved whole or not at all, loaded only when whole, known by their content."""

from abc import abstractmethod
from pathlib import Path
from typing import Any, TypeVar

from kedro.io import AbstractDataset, DatasetError

from ragsmith.store import (
    IncompleteArtefact,
    check_target,
    is_complete,
    publish_file,
    read_metadata,
    recover,
    require_complete,
)

In = TypeVar("In")
Out = TypeVar("Out")


def local_path(filepath: str) -> Path:
    """A catalog entry's path on this machine.

    Raises:
        DatasetError: remote storage, or a `~`, which Kedro has by then put behind the project's folder.
    """
    if "://" in filepath:
        raise DatasetError(f"{filepath!r} is not a local path: remote storage comes with the cluster back end.")
    path = Path(filepath)
    if "~" in path.parts:
        raise DatasetError(
            f"{filepath!r}: '~' is not expanded in the catalog and in globals.yml. Write the full path."
        )
    return path


class ArtefactDataset(AbstractDataset[In, Out]):
    """A file or directory that one step writes. Subclasses say how it is read and written, and nothing else.

    `exists()` means complete: published whole and unaltered since. Saving never overwrites a file of the user's.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = local_path(filepath)
        self.metadata = metadata

    @abstractmethod
    def read(self, path: Path) -> Out:
        """Read what lies at `path`, which is complete."""

    @abstractmethod
    def write(self, data: In, path: Path) -> None:
        """Write `data` to `path`, where nothing lies yet."""

    def load(self) -> Out:
        """Read the artefact.

        Raises:
            DatasetError: it is missing, half-written or altered; the text says which file and what to do.
        """
        return self.read(self.complete_path())

    def save(self, data: In) -> None:
        """Publish the artefact; see `ragsmith.store.publish_file`."""
        publish_file(self._filepath, lambda path: self.write(data, path))

    def complete_path(self) -> Path:
        """The artefact's path, once it is known to be whole; raises as `load`."""
        try:
            require_complete(self._filepath)
        except IncompleteArtefact as error:
            raise DatasetError(str(error)) from error
        return self._filepath

    def content_hash(self) -> str | None:
        """Hash of the content; None when the artefact is not complete."""
        metadata = read_metadata(self._filepath)
        return metadata.content_hash if metadata is not None and self._exists() else None

    def recognises(self, fingerprint: str) -> bool:
        """Whether the complete artefact of exactly this work is already there."""
        recover(self._filepath)
        metadata = read_metadata(self._filepath)
        recorded = metadata.provenance if metadata is not None else None
        return recorded is not None and recorded.fingerprint == fingerprint and self._exists()

    def check(self) -> None:
        """Before a run that reads it: raise DatasetError when it cannot be read."""
        recover(self._filepath)
        self.complete_path()

    def check_target(self) -> None:
        """Before a run that writes it: raise DatasetError when something of the user's is in the way."""
        try:
            recover(self._filepath)
            check_target(self._filepath)
        except (FileExistsError, ValueError) as error:
            raise DatasetError(str(error)) from error

    def _exists(self) -> bool:
        return is_complete(self._filepath)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
