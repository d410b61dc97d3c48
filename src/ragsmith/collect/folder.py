"""A folder of the user's own text, Markdown and JSONL files."""

import datetime as dt
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ragsmith.collect.documents import Document

logger = logging.getLogger(__name__)

MARKUP = {".md": "markdown", ".markdown": "markdown", ".txt": "plain", ".text": "plain", ".rst": "plain"}
RECORD_SUFFIXES = (".jsonl",)


@dataclass
class FolderReading:
    """What a folder gave: the documents, and what was left out and why (`{"uri", "reason"}` rows)."""

    documents: list[Document] = field(default_factory=list)
    rejected: list[dict[str, str]] = field(default_factory=list)


def read_folder(folder: Path, max_bytes: int = 50_000_000) -> FolderReading:
    """Read every text, Markdown and JSONL file below a folder.

    A JSONL file holds one record a line, with `text` and, if it likes, `id`, `title`, `url`, `markup` and `licence`.
    Hidden files and folders and links that leave the folder are passed over. Nothing is written.

    Args:
        folder: an existing folder.
        max_bytes: larger files are rejected, and so are single records above it.
    Returns:
        The documents in the order of their paths, and the rejected files and records with reasons.
    Raises:
        NotADirectoryError: `folder` is not a folder.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder. Create it and put .md, .txt or .jsonl files there.")
    root = folder.resolve()
    reading = FolderReading()
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if any(part.startswith(".") for part in relative.parts) or not path.is_file():
            continue
        uri = relative.as_posix()
        if not path.resolve().is_relative_to(root):
            reading.rejected.append({"uri": uri, "reason": "link that leaves the folder"})
        elif path.suffix.lower() not in {*MARKUP, *RECORD_SUFFIXES}:
            reading.rejected.append({"uri": uri, "reason": f"unknown file type {path.suffix or '(none)'}"})
        elif path.stat().st_size > max_bytes:
            reading.rejected.append({"uri": uri, "reason": f"larger than {max_bytes} bytes"})
        else:
            read_file(path, uri, reading)
    logger.info("%s: %d documents, %d rejected", folder, len(reading.documents), len(reading.rejected))
    return reading


def read_file(path: Path, uri: str, reading: FolderReading) -> None:
    """Add one file's documents, or the reason why there are none."""
    modified = dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC).isoformat(timespec="seconds")
    if path.suffix.lower() in RECORD_SUFFIXES:
        for number, record, reason in read_records(path):
            if record is None:
                reading.rejected.append({"uri": f"{uri}#{number}", "reason": reason})
            else:
                reading.documents.append(record_document(record, f"{uri}#{number}", modified))
        return
    try:
        # utf-8-sig: editors on Windows put a byte-order mark first.
        text = path.read_text("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        reading.rejected.append({"uri": uri, "reason": f"not UTF-8 text (byte {error.start})"})
        return
    if not text.strip() or "\x00" in text:
        reading.rejected.append({"uri": uri, "reason": "empty" if not text.strip() else "binary"})
        return
    markup = MARKUP[path.suffix.lower()]
    first = text.lstrip().split("\n", 1)[0].strip()
    title = first.lstrip("#").strip() if markup == "markdown" and first.startswith("#") else path.stem
    reading.documents.append(Document("folder", uri, title, text, markup, modified))


def read_records(path: Path) -> Iterator[tuple[int, dict[str, str] | None, str]]:
    """Line number, record and reason of rejection (record None) of each line that is not blank."""
    with path.open("rb") as lines:
        for number, raw in enumerate(lines, start=1):
            if not raw.strip():
                continue
            try:
                record = json.loads(raw.decode("utf-8-sig"))
            except (ValueError, RecursionError) as error:
                yield number, None, f"not JSON: {str(error)[:120]}"
                continue
            text = record.get("text") if isinstance(record, dict) else None
            if not isinstance(text, str) or not text.strip():
                yield number, None, "no text: a record needs a non-empty string under 'text'"
                continue
            yield number, {key: value for key, value in record.items() if isinstance(value, str)}, ""


def record_document(record: dict[str, str], uri: str, modified: str) -> Document:
    """A JSONL record as a document; its own id or url, if any, names it better than its line number."""
    file = uri.rpartition("#")[0]
    name = record.get("id") or record.get("url")
    return Document(
        source="folder",
        uri=f"{file}#{name}" if name else uri,
        title=record.get("title") or name or uri,
        text=record["text"],
        markup="markdown" if record.get("markup") == "markdown" else "plain",
        fetched_at=modified,
        licence=record.get("licence", ""),
    )
