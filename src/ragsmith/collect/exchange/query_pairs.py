"""Query pairs: `{"query", "positive", "negative"}`, as ArchivesRAG and many data sets on the hub have them."""

from pathlib import Path

from ragsmith.collect.exchange.jsonl import Dialect, read_jsonl, write_jsonl
from ragsmith.collect.exchange.record_set import RecordSet
from ragsmith.collect.exchange.source_text import MAX_BYTES

DIALECT = Dialect("positive", "negative", "positive_scores", "negative_scores")


def read_query_pairs(path: Path, max_bytes: int = MAX_BYTES) -> RecordSet:
    """Read JSONL of `{"query": str, "positive": str or [str], "negative": str or [str]}`.

    `negative` may be missing. Keys that nobody knows are kept for `write_query_pairs`.

    Args:
        path: the file; may be packed by gzip.
        max_bytes: most that it may hold when unpacked.
    Raises:
        ValueError: it cannot be read, or lines are no such records: all faults by line, the first 20 shown.
    """
    return read_jsonl(path, DIALECT, max_bytes)


def write_query_pairs(records: RecordSet, path: Path) -> None:
    """Write the questions that have a positive as query pairs.

    Args:
        records: from any format; what was read from this format comes out as it was.
        path: where. Nothing that lies there and was not written by this project is replaced.
    Raises:
        FileExistsError: such a file is there.
        ValueError: no question has a positive.
    """
    write_jsonl(records, DIALECT, path)
