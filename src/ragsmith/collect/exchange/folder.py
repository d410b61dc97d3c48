"""A folder of records in any of the exchange formats."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ragsmith.collect.exchange.detect import TABLES, Format, detect_format
from ragsmith.collect.exchange.flagembedding import read_flagembedding
from ragsmith.collect.exchange.knowledge_base import read_knowledge_base
from ragsmith.collect.exchange.query_pairs import read_query_pairs
from ragsmith.collect.exchange.question_table import read_question_table
from ragsmith.collect.exchange.record_set import RecordSet, merged
from ragsmith.collect.exchange.source_target import PAIR, SOURCE, pair_suffix, read_source_target
from ragsmith.collect.exchange.source_text import MAX_BYTES, stem
from ragsmith.collect.exchange.squad import read_squad
from ragsmith.collect.exchange.wikiqa import read_wikiqa
from ragsmith.collect.files import LEAVES_FOLDER, files_below

logger = logging.getLogger(__name__)

SUFFIXES = (*TABLES, ".json", ".jsonl", ".parquet", *PAIR)
NO_FORMAT = (
    "in none of the formats of records: WikiQA, SQuAD, query with pos, query with positive, title TAB text, question "
    "and answer without passages"
)

# By folder and name: the files that end in .source and in .target, each with its uri.
Halves = dict[tuple[Path, str], dict[str, list[tuple[Path, str]]]]

READERS: dict[Format, Callable[[Path, int], RecordSet]] = {
    "wikiqa": read_wikiqa,
    "squad": read_squad,
    "flagembedding": read_flagembedding,
    "query_pairs": read_query_pairs,
    "knowledge_base": read_knowledge_base,
    "question_table": read_question_table,
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


def read_records(folder: Path, max_bytes: int = MAX_BYTES, other_documents: bool = False) -> RecordReading:
    """Read every file of records below a folder; formats may be mixed. Nothing is written.

    Hidden files and folders are passed over. A file in none of the formats (a licence, a note) is listed with the
    reason; one that is in a format and has faults is an error, for half a data set would be measured as a whole one.

    Args:
        folder: an existing folder.
        max_bytes: most that one file may hold when unpacked.
        other_documents: whether questions that name no passage may be about documents from elsewhere.
    Raises:
        NotADirectoryError: `folder` is not a folder.
        ValueError: files have faults, or there are questions and nothing that they could be about; all is told
            together.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder. Create it and put files of records there.")
    reading, sets, faults = RecordReading(), [], []
    halves: Halves = {}
    for path, uri, inside in files_below(folder):
        if not inside:
            reading.rejected.append({"uri": uri, "reason": LEAVES_FOLDER})
        elif suffix := pair_suffix(path):
            halves.setdefault((path.parent, stem(path)), {}).setdefault(suffix, []).append((path, uri))
        else:
            try:
                sets.append(read_file(path, uri, max_bytes, reading))
            except ValueError as error:
                faults.append(str(error))
    for half in halves.values():
        try:
            sets.append(read_halves(half, max_bytes, reading))
        except ValueError as error:
            faults.append(str(error))
    reading.records = merged(sets)
    # With faults in other files, the knowledge base may be among those.
    if not (faults or other_documents or reading.records.documents) and reading.records.questions:
        faults.append(no_knowledge_base(folder, reading))
    if faults:
        raise ValueError("\n".join(faults))
    logger.info("%s: %d files of records, %d rejected", folder, len(reading.files), len(reading.rejected))
    return reading


def read_file(path: Path, uri: str, max_bytes: int, reading: RecordReading) -> RecordSet:
    """What one file gives, nothing if it is rejected; which of both goes to `reading`."""
    try:
        kind = detect_format(path, max_bytes)
    except (OSError, ValueError) as error:
        # A picture or a PDF is no fault; a download that broke off is one.
        if is_meant_as_records(path):
            raise ValueError(str(error)) from error
        reading.rejected.append({"uri": uri, "reason": "not a text file"})
        return RecordSet()
    if kind is None:
        reading.rejected.append({"uri": uri, "reason": NO_FORMAT})
        return RecordSet()
    found = READERS[kind](path, max_bytes)
    reading.files.append(described(found, uri, kind))
    return found


def read_halves(half: dict[str, list[tuple[Path, str]]], max_bytes: int, reading: RecordReading) -> RecordSet:
    """The questions of a `.source` with the answers of its `.target`."""
    if len(half) < len(PAIR):
        [(suffix, [(path, _), *_])] = half.items()
        raise ValueError(f"{path}: its {PAIR[suffix]} file is not there. Both lie in one folder and bear one name.")
    for (path, _), *others in half.values():
        if others:
            raise ValueError(f"{path}: {others[0][0].name} is there too. Keep one of them.")
    (source, uri), (target, _) = half[SOURCE][0], half[PAIR[SOURCE]][0]
    found = read_source_target(source, target, max_bytes)
    reading.files.append(described(found, uri, "source_target"))
    return found


def described(found: RecordSet, uri: str, kind: str) -> dict[str, object]:
    """What is reported of a file that was read."""
    split = found.questions[0].split if found.questions else None
    counts = {"documents": len(found.documents), "questions": len(found.questions)}
    return {"uri": uri, "format": kind, "split": split, **counts}


def no_knowledge_base(folder: Path, reading: RecordReading) -> str:
    """What is said when there are questions and nothing that they could be about."""
    tables = [row["uri"] for row in reading.rejected if row["uri"].lower().removesuffix(".gz").endswith(TABLES)]
    unread = f" In {', '.join(tables[:5])} most of the first rows are no such rows." if tables else ""
    return (
        f"{folder}: {len(reading.records.questions)} questions and no knowledge base. Put it beside them: a .tsv or "
        f".csv file with title TAB text in each row.{unread}"
    )


def is_meant_as_records(path: Path) -> bool:
    """Whether the name promises records, although the content cannot be read."""
    return path.name.lower().removesuffix(".gz").endswith(SUFFIXES)
