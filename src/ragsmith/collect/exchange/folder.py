"""A folder of records in any of the exchange formats."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ragsmith.collect.exchange.detect import Format, detect_format
from ragsmith.collect.exchange.flagembedding import read_flagembedding
from ragsmith.collect.exchange.query_pairs import read_query_pairs
from ragsmith.collect.exchange.record_set import RecordSet, merged
from ragsmith.collect.exchange.source_text import MAX_BYTES
from ragsmith.collect.exchange.squad import read_squad
from ragsmith.collect.exchange.wikiqa import read_wikiqa
from ragsmith.collect.files import LEAVES_FOLDER, files_below

logger = logging.getLogger(__name__)

SUFFIXES = (".tsv", ".json", ".jsonl")

READERS: dict[Format, Callable[[Path, int], RecordSet]] = {
    "wikiqa": read_wikiqa,
    "squad": read_squad,
    "flagembedding": read_flagembedding,
    "query_pairs": read_query_pairs,
}


@dataclass
class RecordReading:
    """What a folder of records gave.

    Attributes:
        records: of all files together.
        files: per file that was read: uri, format, split (of its name, or None), documents, questions.
        rejected: files that are no records, as `{"uri", "reason"}`.
    """

    records: RecordSet = field(default_factory=RecordSet)
    files: list[dict[str, object]] = field(default_factory=list)
    rejected: list[dict[str, str]] = field(default_factory=list)


def read_records(folder: Path, max_bytes: int = MAX_BYTES) -> RecordReading:
    """Read every file of records below a folder; formats may be mixed. Nothing is written.

    Hidden files and folders are passed over. A file in none of the formats (a licence, a note) is listed with the
    reason; one that is in a format and has faults is an error, for half a data set would be measured as a whole one.

    Args:
        folder: an existing folder.
        max_bytes: most that one file may hold when unpacked.
    Raises:
        NotADirectoryError: `folder` is not a folder.
        ValueError: files have faults; those of all files are told together.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder. Create it and put files of records there.")
    reading, sets, faults = RecordReading(), [], []
    for path, uri, inside in files_below(folder):
        if not inside:
            reading.rejected.append({"uri": uri, "reason": LEAVES_FOLDER})
            continue
        try:
            kind = detect_format(path, max_bytes)
        except (OSError, ValueError) as error:
            # A picture or a PDF is no fault; a download that broke off is one.
            if is_meant_as_records(path):
                faults.append(str(error))
            else:
                reading.rejected.append({"uri": uri, "reason": "not a text file"})
            continue
        if kind is None:
            reason = "in none of the formats of records: WikiQA, SQuAD, query with pos, query with positive"
            reading.rejected.append({"uri": uri, "reason": reason})
            continue
        try:
            found = READERS[kind](path, max_bytes)
        except ValueError as error:
            faults.append(str(error))
            continue
        sets.append(found)
        split = found.questions[0].split if found.questions else None
        counts = {"documents": len(found.documents), "questions": len(found.questions)}
        reading.files.append({"uri": uri, "format": kind, "split": split, **counts})
    if faults:
        raise ValueError("\n".join(faults))
    reading.records = merged(sets)
    logger.info("%s: %d files of records, %d rejected", folder, len(reading.files), len(reading.rejected))
    return reading


def is_meant_as_records(path: Path) -> bool:
    """Whether the name promises records, although the content cannot be read."""
    return path.name.lower().removesuffix(".gz").endswith(SUFFIXES)
