"""What is known of a published artefact, and whether what lies on disk is still it.

A file `data.parquet` has its metadata in the hidden sibling `.data.parquet.meta.json`; a directory has it inside, in
`_artefact.json`. The metadata is the last thing to appear, so an artefact without it was never finished.
"""

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ragsmith.store.provenance import Provenance

FORMAT_VERSION = 1
DIRECTORY_METADATA = "_artefact.json"
# File managers leave these in every folder that a person opens: no reason to train a model again.
LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
# Two writes within one tick of the file system's clock leave the same time stamp, so the hash of a file that was
# written just now is not remembered.
_CLOCK_TICK_NS = 100_000_000


class IncompleteArtefact(RuntimeError):
    """An artefact that is missing, half-written, or altered since it was published."""


@dataclass(frozen=True)
class Metadata:
    """What was published, from what, when and by which versions.

    Attributes:
        content_hash: of a file its sha256; of a directory the hash over relative paths and their sha256.
        size: bytes in all.
        files: relative path to sha256 and size; a file artefact has one entry, its name.
    """

    content_hash: str
    size: int
    files: Mapping[str, tuple[str, int]]
    created_at: str
    python: str
    ragsmith: str
    provenance: Provenance | None
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """The text of the metadata file."""
        values = dataclasses.asdict(self)
        values["files"] = {name: {"sha256": sha256, "size": size} for name, (sha256, size) in self.files.items()}
        return json.dumps(values, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Metadata":
        """Read back what `to_json` wrote.

        Raises:
            ValueError: not such a text, or one of another format version.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            if values["format_version"] != FORMAT_VERSION:
                raise ValueError(f"format version {values['format_version']} where {FORMAT_VERSION} is known")
            values["files"] = {name: (entry["sha256"], entry["size"]) for name, entry in values["files"].items()}
            values["provenance"] = Provenance(**values["provenance"]) if values["provenance"] else None
            return cls(**values)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the metadata of an artefact: {error!r}") from error


def metadata_path(path: Path) -> Path:
    """Where the metadata of the artefact at `path` lies."""
    return path / DIRECTORY_METADATA if path.is_dir() else path.with_name(f".{path.name}.meta.json")


def read_metadata(path: Path) -> Metadata | None:
    """The metadata of the artefact at `path`; None when there is none, or it cannot be read."""
    try:
        return Metadata.from_json(metadata_path(path).read_text("utf-8"))
    except (OSError, ValueError):
        return None


def altered_files(path: Path, verify: bool = True) -> list[str]:
    """Relative paths that are missing, cut short, altered or new since the artefact at `path` was published.

    Args:
        path: a file or directory. Of one that was never published nothing is known: the answer is empty.
        verify: compare contents; without it, only names and sizes.
    """
    if not metadata_path(path).is_file():
        return []
    metadata = read_metadata(path)
    return [metadata_path(path).name] if metadata is None else differences(path, metadata, verify)


def differences(path: Path, metadata: Metadata, verify: bool = True) -> list[str]:
    """Relative paths at which `path` is not what `metadata` says; as `altered_files`, which see."""
    found = artefact_files(path)
    wrong = set(found) ^ set(metadata.files)
    for name in set(found) & set(metadata.files):
        sha256, size = metadata.files[name]
        file = found[name]
        same = not file.is_symlink() and file.stat().st_size == size and (not verify or file_hash(file) == sha256)
        if not same:
            wrong.add(name)
    return sorted(wrong)


def is_complete(path: Path, verify: bool = True) -> bool:
    """Whether the artefact at `path` was published whole and is unaltered since.

    Args:
        path: a file or directory.
        verify: compare contents (remembered within the process); without it, only names and sizes.
    """
    metadata = read_metadata(path)
    return metadata is not None and not differences(path, metadata, verify)


def require_complete(path: Path) -> Metadata:
    """The metadata of a complete artefact.

    Raises:
        IncompleteArtefact: it is missing, half-written or altered; the text names the file and what to do.
    """
    if not path.exists():
        raise IncompleteArtefact(f"{path} does not exist yet. `kedro run` writes it, with all that it is made from.")
    metadata = read_metadata(path)
    if metadata is None:
        raise IncompleteArtefact(
            f"{path} has no readable metadata ({metadata_path(path).name}): it is half-written, or it is a file of "
            f"your own. The same `kedro run` repairs a half-written one; move your own file away first."
        )
    if wrong := differences(path, metadata):
        named = ", ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        raise IncompleteArtefact(
            f"{path} is half-written or altered since it was published (see {named}). The same `kedro run` repairs it."
        )
    return metadata


def content_hash(path: Path) -> str:
    """Hash of what is at `path`: the same content gives the same hash, wherever and whenever it was written.

    Args:
        path: an artefact, or a file or folder of the user's (links in it are followed).
    Raises:
        FileNotFoundError: nothing is there.
        IncompleteArtefact: an artefact that is half-written or altered.
    """
    if not path.exists():
        raise FileNotFoundError(f"Nothing to hash at {path}.")
    if metadata_path(path).is_file():
        return require_complete(path).content_hash
    if path.is_file():
        return file_hash(path)
    return listing_hash({name: file_hash(file) for name, file in source_files(path)})


def listing_hash(files: Mapping[str, str]) -> str:
    """Hash of a directory from its files' relative paths and hashes, in any order."""
    total = hashlib.sha256()
    for name in sorted(files):
        total.update(f"{name}\0{files[name]}\n".encode())
    return total.hexdigest()


def artefact_files(path: Path) -> dict[str, Path]:
    """Relative path to file of an artefact, without its metadata; links are entries and are not followed."""
    if not path.is_dir():
        return {path.name: path} if path.exists() else {}
    found = {}
    for folder, inner, names in os.walk(path):
        links = [name for name in inner if Path(folder, name).is_symlink()]
        for name in [*names, *links]:
            file = Path(folder, name)
            relative = file.relative_to(path).as_posix()
            if relative != DIRECTORY_METADATA and name not in LITTER:
                found[relative] = file
    return found


def source_files(path: Path) -> Iterator[tuple[str, Path]]:
    """Relative path and file of everything in a user's folder; links are followed, circles are cut."""
    seen = set()
    for folder, inner, names in os.walk(path, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        for name in names:
            file = Path(folder, name)
            if name not in LITTER and file.is_file():
                yield file.relative_to(path).as_posix(), file


def file_hash(path: Path) -> str:
    """Hexadecimal sha256 of a file; one that has not changed is read once per process."""
    status = path.stat()
    key = (str(path), status.st_size, status.st_mtime_ns, status.st_ino)
    if time.time_ns() - status.st_mtime_ns < _CLOCK_TICK_NS:
        return _read_hash.__wrapped__(*key)
    return _read_hash(*key)


@lru_cache(maxsize=65_536)
def _read_hash(path: str, size: int, mtime_ns: int, inode: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
