"""The one way in which artefacts come to be: written beside, synced, renamed, the metadata last.

Everything is staged in a hidden sibling folder `.NAME.staging-<random>`, which its process holds locked. One that
dies leaves it behind unlocked; `recover`, which every publication begins with, finishes what was already sealed with
metadata and removes the rest. So at any moment a reader sees the old artefact, the new one, or an incomplete one.
"""

import datetime
import fcntl
import logging
import os
import platform
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ragsmith.store.metadata import (
    DIRECTORY_METADATA,
    Metadata,
    altered_files,
    artefact_files,
    differences,
    file_hash,
    is_complete,
    listing_hash,
    metadata_path,
)
from ragsmith.store.provenance import Provenance, current_provenance

logger = logging.getLogger(__name__)
REPLACED = ".replaced"


def publish_file(target: Path, write: Callable[[Path], None], provenance: Provenance | None = None) -> Metadata:
    """Write a file so that it appears whole or not at all.

    Args:
        target: where it shall be; folders on the way are made.
        write: called with a path of the same name, in another folder, at which it writes the file.
        provenance: what it was made from; by default that of the enclosing `recording`.
    Returns:
        The metadata, which now lies in the hidden sibling `.NAME.meta.json`.
    Raises:
        FileExistsError: something that was not published here is at `target`; it is left as it is.
        ValueError: `target` is a link, or `write` left no file.
    """
    recover(target)
    check_target(target)
    with _staging(target) as staging:
        staged = staging / target.name
        write(staged)
        if staged.is_symlink() or not staged.is_file():
            raise ValueError(
                f"Nothing was written for {target}: the writer left no file at the path that it was given."
            )
        metadata = _seal(staged, staging / _staged_metadata(target), provenance)
        _sync(staging)
        _place_file(staging, target)
    return metadata


def publish_directory(target: Path, write: Callable[[Path], None], provenance: Provenance | None = None) -> Metadata:
    """Write a directory so that it appears whole or not at all.

    Args:
        target: where it shall be; folders on the way are made.
        write: called with an empty folder, which it fills with files; no links.
        provenance: what it was made from; by default that of the enclosing `recording`.
    Returns:
        The metadata, which now lies inside, in `_artefact.json`.
    Raises:
        FileExistsError: something that was not published here is at `target`; it is left as it is.
        ValueError: `target` is a link, or `write` left no file, or a link.
    """
    recover(target)
    check_target(target)
    with _staging(target) as staging:
        staged = staging / target.name
        staged.mkdir()
        write(staged)
        (staged / DIRECTORY_METADATA).unlink(missing_ok=True)  # of another artefact that was copied whole
        files = artefact_files(staged)
        links = sorted(name for name, path in files.items() if path.is_symlink())
        if links:
            raise ValueError(f"{target} cannot hold the link {links[0]}: write the file that it points at instead.")
        if not files:
            raise ValueError(f"Nothing was written for {target}: the writer left its folder empty.")
        metadata = _seal(staged, staged / DIRECTORY_METADATA, provenance)
        _place_directory(staging, target)
    return metadata


def check_target(target: Path) -> None:
    """Refuse to publish where something lies that was not published here: nothing a user gave is ever overwritten.

    Raises:
        FileExistsError, ValueError: as `publish_file`.
    """
    if target.is_symlink():
        raise ValueError(
            f"{target} is a link to {target.readlink()}, and publishing would replace the link. "
            f"Remove it, or give the place that it points at as the path."
        )
    empty = target.is_dir() and not any(target.iterdir())
    if target.exists() and not empty and not metadata_path(target).is_file():
        raise FileExistsError(
            f"{target} is in the way: it was not written by ragsmith, and nothing of yours is overwritten. "
            f"Move it away, or change the path in the catalog."
        )


def recover(target: Path) -> None:
    """Finish or clean up what processes that died left beside `target`; what a living one stages is left alone."""
    prefix = f".{target.name}.staging-"
    if not target.parent.is_dir():
        return
    for staging in sorted(path for path in target.parent.iterdir() if path.name.startswith(prefix)):
        with _locked(staging) as ours:
            if ours:
                _finish(staging, target)
                shutil.rmtree(staging, ignore_errors=True)


def _finish(staging: Path, target: Path) -> None:
    """Complete a publication whose process died after it had sealed the artefact with metadata."""
    staged, sealed = staging / target.name, staging / _staged_metadata(target)
    try:
        if staged.is_dir() and is_complete(staged):
            check_target(target)
            _place_directory(staging, target)
        elif sealed.is_file():
            metadata = Metadata.from_json(sealed.read_text("utf-8"))
            if target.is_file() and not differences(target, metadata):
                sealed.replace(metadata_path(target))  # it died between the two renames
            elif staged.is_file() and not differences(staged, metadata):
                check_target(target)
                _place_file(staging, target)
        else:
            return
        logger.info("finished the publication of %s that a process had died in", target)
    except (ValueError, FileExistsError) as error:
        logger.warning("dropped a publication that a process had died in: %s", error)


def _seal(staged: Path, sealed: Path, provenance: Provenance | None) -> Metadata:
    """Sync what was written and describe it in `sealed`."""
    # The staging folder has the umask of the person; writers that use a private temporary file leave 0600.
    readable = staged.parent.stat().st_mode & 0o666
    files = {}
    for name, path in sorted(artefact_files(staged).items()):
        path.chmod(path.stat().st_mode & 0o777 | readable)
        _sync(path)
        files[name] = (file_hash(path), path.stat().st_size)
    hashes = {name: sha256 for name, (sha256, _) in files.items()}
    metadata = Metadata(
        content_hash=listing_hash(hashes) if staged.is_dir() else hashes[staged.name],
        size=sum(size for _, size in files.values()),
        files=files,
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        python=platform.python_version(),
        ragsmith=_version(),
        provenance=provenance or current_provenance(),
    )
    sealed.write_text(metadata.to_json(), "utf-8")
    _sync(sealed)
    if staged.is_dir():
        for folder, _, _ in os.walk(staged):
            _sync(Path(folder))
    return metadata


def _place_file(staging: Path, target: Path) -> None:
    _keep_altered(target)
    if target.is_dir():  # the catalog's entry has become a file
        target.rename(staging / REPLACED)
    (staging / target.name).replace(target)
    (staging / _staged_metadata(target)).replace(metadata_path(target))
    _sync(target.parent)


def _place_directory(staging: Path, target: Path) -> None:
    _keep_altered(target)
    replaced = staging / REPLACED
    if target.exists():
        # No directory can be renamed over a full one, so for an instant there is none, which `recover` mends.
        sibling = None if target.is_dir() else metadata_path(target)
        target.rename(replaced)
        if sibling is not None:  # the catalog's entry has become a directory
            sibling.unlink(missing_ok=True)
    try:
        (staging / target.name).rename(target)
    except OSError:
        if replaced.exists() and not target.exists():
            replaced.rename(target)
        raise
    _sync(target.parent)


def _keep_altered(target: Path) -> None:
    """Set an artefact aside that someone has changed by hand: it may hold their work."""
    if not target.exists() or not altered_files(target):
        return
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S%f")
    aside = target.with_name(f"{target.name}.altered-{stamp}")
    target.rename(aside)
    logger.warning("%s was altered since it was published; it is kept as %s", target, aside.name)


def _staged_metadata(target: Path) -> str:
    return f".{target.name}.meta.json"


@contextmanager
def _staging(target: Path) -> Iterator[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = target.with_name(f".{target.name}.staging-{secrets.token_hex(4)}")
    staging.mkdir()
    with _locked(staging):
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Hold a folder's lock, which dies with the process; False when another process holds it or has removed it."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        free = True
    except BlockingIOError:
        free = False
    try:
        yield free
    finally:
        os.close(handle)


def _sync(path: Path) -> None:
    """Have a file's content or a folder's names on the disk before anything that relies on them."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _version() -> str:
    try:
        return version("ragsmith")
    except PackageNotFoundError:  # run from a checkout that is not installed
        from ragsmith import __version__

        return __version__
