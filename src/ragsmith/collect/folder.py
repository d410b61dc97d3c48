"""A folder of the user's own text, Markdown and JSONL files."""

import datetime as dt
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ragsmith.collect.documents import Document
from ragsmith.collect.files import LEAVES_FOLDER, files_below
from ragsmith.collect.sections import sections

logger = logging.getLogger(__name__)

MARKUP = {".md": "markdown", ".markdown": "markdown", ".txt": "plain", ".text": "plain", ".rst": "plain"}
RECORD_SUFFIXES = (".jsonl",)
# JSON can name characters that no UTF-8 file can hold.
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
NEWLINE = re.compile(r"\r\n?")


@dataclass
class FolderReading:
    """What a folder gave: the documents, and what was left out and why (`{"uri", "reason"}` rows)."""

    documents: list[Document] = field(default_factory=list)
    rejected: list[dict[str, str]] = field(default_factory=list)


def read_folder(folder: Path, max_bytes: int = 50_000_000) -> FolderReading:
    """Read every text, Markdown and JSONL file below a folder.

    A JSONL file holds one record a line, with `text` and, if it likes, `id`, `title`, `url`, `markup` and `licence`.
    Hidden files and folders are passed over; so are links that leave the folder, with a reason. Nothing is written.

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
    reading = FolderReading()
    for path, uri, inside in files_below(folder):
        if not inside:
            reading.rejected.append({"uri": uri, "reason": LEAVES_FOLDER})
        elif path.suffix.lower() not in {*MARKUP, *RECORD_SUFFIXES}:
            reading.rejected.append({"uri": uri, "reason": f"unknown file type {path.suffix or '(none)'}"})
        elif path.stat().st_size > max_bytes:
            reading.rejected.append({"uri": uri, "reason": f"larger than {max_bytes} bytes"})
        else:
            try:
                read_file(path, uri, reading)
            except OSError as error:
                reading.rejected.append({"uri": uri, "reason": f"cannot be read: {error.strerror}"})
    logger.info("%s: %d documents, %d rejected", folder, len(reading.documents), len(reading.rejected))
    return reading


def read_file(path: Path, uri: str, reading: FolderReading) -> None:
    """Add one file's documents, or the reason why there are none."""
    modified = dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC).isoformat(timespec="seconds")
    if path.suffix.lower() in RECORD_SUFFIXES:
        seen: dict[str, int] = {}
        for number, record, reason in read_records(path):
            if record is None:
                reading.rejected.append({"uri": f"{uri}#{number}", "reason": reason})
                continue
            document = record_document(record, f"{uri}#{number}", modified)
            if (first := seen.setdefault(document.uri, number)) != number:
                twice = f"its id or url is that of line {first}"
                reading.rejected.append({"uri": f"{uri}#{number}", "reason": twice})
            else:
                reading.documents.append(document)
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
    # The heading that it begins with, as `chunk_documents` will name it: the passages' titles then say it once.
    heading = next(sections(text, markup)).path
    title = heading[0] if heading else Path(uri).stem
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
            strings = {key: value for key, value in record.items() if isinstance(value, str)}
            if any(UNSTORABLE.search(value) for value in strings.values()):
                yield number, None, "binary: it holds a NUL or half a surrogate pair"
                continue
            yield number, strings, ""


def record_document(record: dict[str, str], uri: str, modified: str) -> Document:
    """A JSONL record as a document; its own id or url, if any, names it better than its line number."""
    file = uri.rpartition("#")[0]
    name = record.get("id") or record.get("url")
    return Document(
        source="folder",
        uri=f"{file}#{name}" if name else uri,
        title=" ".join((record.get("title") or name or uri).split()),
        text=NEWLINE.sub("\n", record["text"]),
        markup="markdown" if record.get("markup") == "markdown" else "plain",
        fetched_at=modified,
        licence=record.get("licence", ""),
    )
