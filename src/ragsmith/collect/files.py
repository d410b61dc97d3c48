"""The files of a user's folder."""

from collections.abc import Iterator
from pathlib import Path

LEAVES_FOLDER = "link that leaves the folder"


def files_below(folder: Path) -> Iterator[tuple[Path, str, bool]]:
    """Each file of a folder, in the order of paths; hidden ones, and those in hidden folders, do not count.

    Args:
        folder: an existing folder.
    Yields:
        The path, its name below the folder with `/`, and whether it really lies there: False for a link out of it.
    """
    root = folder.resolve()
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if any(part.startswith(".") for part in relative.parts) or not path.is_file():
            continue
        # A name that is no UTF-8 could not be written into any table.
        uri = relative.as_posix().encode("utf-8", "backslashreplace").decode()
        yield path, uri, path.resolve().is_relative_to(root)
