"""Versions of an evaluation's outputs: kept when a run ends, found again by name."""

import datetime
import hashlib
import logging
import re
import shutil
from pathlib import Path

from ragsmith.evaluate._checks import some
from ragsmith.store import altered_files, publish_directory, read_metadata, recover, require_complete

logger = logging.getLogger(__name__)

METRICS, PER_QUERY = "metrics.json", "per_query.parquet"
HISTORY = "history"
_STAMP = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}")
_STAGING = re.compile(rf"\.({_NAME.pattern})\.staging-[0-9a-f]+")
# Where a version's files lie below a folder that someone names: in it, in a data folder, in a project.
_PLACES = ("", "08_reporting", "data/08_reporting")


def keep_version(reporting: Path, history: Path) -> str | None:
    """Copy the outputs of an evaluation into the history, unless its newest version is the same.

    A version appears whole or not at all; what a killed process left of one is finished or removed first. Versions
    are never removed here: delete a folder of the history to be rid of it.

    Args:
        reporting: folder with metrics.json and per_query.parquet, as they were published.
        history: folder of the versions; made when it is not there.
    Returns:
        the new version's name, `<UTC time>-<first 8 digits of the sha256 over both contents>`, or None when the newest
        version has these contents. Names sort by time, also when the clock was put back.
    Raises:
        IncompleteArtefact: one of the two files is missing, half-written or altered.
        OSError: there is no room, or no permission.
    """
    hashes = {name: require_complete(reporting / name).content_hash for name in (METRICS, PER_QUERY)}
    if history.is_dir():
        for path in history.iterdir():
            if left := _STAGING.fullmatch(path.name):
                recover(history / left[1])
    known = version_names(history)
    if known and _hashes(history / known[-1]) == hashes:
        return None
    digest = hashlib.sha256("".join(f"{name}\0{sha256}\n" for name, sha256 in hashes.items()).encode())
    name = f"{_stamp(known)}-{digest.hexdigest()[:8]}"

    def write(folder: Path) -> None:
        for file in hashes:
            shutil.copyfile(reporting / file, folder / file)

    # What the figures were made from: hashes of the data, the models' runs and the parameters.
    source = read_metadata(reporting / METRICS)
    written = publish_directory(history / name, write, source.provenance if source else None)
    if {file: sha256 for file, (sha256, _) in written.files.items()} != hashes:
        shutil.rmtree(history / name)
        raise RuntimeError(f"{reporting} changed while it was copied: another run writes there. Wait until it ends.")
    return name


def version_names(history: Path | None) -> list[str]:
    """Names of the versions in a history, the oldest first; none when there is no such folder."""
    if history is None or not history.is_dir():
        return []
    return sorted(path.name for path in history.iterdir() if _NAME.fullmatch(path.name) and path.is_dir())


def find_version(wanted: str, history: Path | None) -> Path:
    """The folder that holds metrics.json and per_query.parquet of the version that someone names.

    Args:
        wanted: `latest` or `previous` (the newest and the last but one of the history); a version's name or a
            beginning or end of it that no other has; or a path to metrics.json, to a folder with both files, to a data
            folder, or to a project.
        history: folder of the versions; None or a missing one has none.
    Raises:
        ValueError: there is no such version, or several; the text lists those that there are.
    """
    names = version_names(history)
    if history is not None and wanted in ("latest", "previous"):
        place = {"latest": 1, "previous": 2}[wanted]
        if len(names) < place:
            raise ValueError(f"There is no {wanted} version: {_listed(names)}")
        return history / names[-place]
    if history is not None and wanted in names:
        return history / wanted
    if folder := _folder_at(wanted):
        return folder
    found = [name for name in names if wanted and (name.startswith(wanted) or name.endswith(wanted))]
    if history is not None and len(found) == 1:
        return history / found[0]
    if found:
        raise ValueError(
            f"{wanted!r} is the beginning or end of {len(found)} versions: {some(found, 10)}. Write more."
        )
    quoted = repr(wanted) if len(wanted) <= 100 else f"{wanted[:100]!r}…"
    raise ValueError(f"{quoted} is no version and no folder with {METRICS} and {PER_QUERY}. {_listed(names)}")


def damaged_files(folder: Path) -> list[str]:
    """Files of a version that are not as they were published; empty also of one that was never published here."""
    inside = altered_files(folder)
    return inside or [name for name in (METRICS, PER_QUERY) if altered_files(folder / name)]


def _folder_at(wanted: str) -> Path | None:
    try:
        path = Path(wanted).expanduser()
        if not wanted.strip() or not path.exists():
            return None
        start = path.parent if path.name == METRICS else path
        for place in _PLACES:
            if all((start / place / name).is_file() for name in (METRICS, PER_QUERY)):
                return start / place
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, or the home of nobody: no path
        return None
    return None


def _stamp(known: list[str]) -> str:
    now = datetime.datetime.now(datetime.UTC)
    if known:
        newest = datetime.datetime.strptime(known[-1].partition("-")[0], _STAMP).replace(tzinfo=datetime.UTC)
        now = max(now, newest + datetime.timedelta(seconds=1))
    return now.strftime(_STAMP)


def _hashes(folder: Path) -> dict[str, str]:
    """What a kept version's metadata says of its two files; empty when it was altered."""
    metadata = read_metadata(folder)
    if metadata is None or altered_files(folder):
        return {}
    return {name: sha256 for name, (sha256, _) in metadata.files.items()}


def _listed(names: list[str]) -> str:
    if not names:
        return "No version is kept yet: a run of the evaluation pipeline keeps one."
    shown = ", ".join(reversed(names[-10:]))
    more = f" and {len(names) - 10} older" if len(names) > 10 else ""
    return f"Versions, the newest first: {shown}{more}."
