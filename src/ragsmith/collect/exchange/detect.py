"""Which exchange format a file is in: its content says, not its name."""

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from ragsmith.collect.exchange import knowledge_base
from ragsmith.collect.exchange.delimited import delimited_rows
from ragsmith.collect.exchange.question_table import (
    answer_columns,
    header_delimiter,
    is_parquet,
    lacks_header,
    parquet_columns,
)
from ragsmith.collect.exchange.source_text import MAX_BYTES, numbered_lines, read_text

Format = Literal["wikiqa", "squad", "flagembedding", "query_pairs", "knowledge_base", "question_table"]
# A JSONL file whose first line is damaged is still JSONL: its reader then says what is wrong with that line.
LINES_TRIED = 20
TABLES = (".csv", ".tsv")


def detect_format(path: Path, max_bytes: int = MAX_BYTES) -> Format | None:
    """The format of a file, or None when it is in none that is known.

    Args:
        path: the file; may be packed by gzip.
        max_bytes: most that it may hold when unpacked.
    Raises:
        ValueError: it is too large, damaged, or neither UTF-8 nor Parquet.
    """
    if is_parquet(path):
        return "question_table" if parquet_columns(path, max_bytes) else None
    text = read_text(path, max_bytes)
    lines = numbered_lines(text)[:LINES_TRIED]
    if not lines:
        return None
    if {"QuestionID", "Sentence"} <= set(lines[0][1].split("\t")):
        return "wikiqa"
    found = lines_format(line for _, line in lines)
    if found is None:
        found = "question_table" if header_delimiter(text) else headless_table(path, text)
    # Pretty-printed or in one line: the whole is one object. Looked for last, for it is the costly test.
    if found or not text.lstrip().startswith("{"):
        return found
    whole = parsed(text)
    if isinstance(whole, dict):
        return "squad" if isinstance(whole.get("data"), list) else None
    # Damaged, but with the words of SQuAD: its reader names the line.
    return "squad" if whole is None and '"paragraphs"' in text[:10_000] else None


def lines_format(lines: Iterable[str]) -> Format | None:
    """The format of JSON by line, by the first line that is in one."""
    for line in lines:
        record = parsed(line)
        if not isinstance(record, dict):
            continue
        if "query" in record and "pos" in record:
            return "flagembedding"
        if "query" in record and "positive" in record:
            return "query_pairs"
        if answer_columns(record):
            return "question_table"
    return None


def headless_table(path: Path, text: str) -> Format | None:
    """What a table without header is, by its name and its first rows; None unless most of them have two fields."""
    if not path.name.lower().removesuffix(".gz").endswith(TABLES):
        return None
    first = itertools.islice(delimited_rows(text, knowledge_base.DELIMITER), LINES_TRIED)
    rows = [fields for _, fields in first]
    if 2 * sum(len(fields) == len(knowledge_base.FIELDS) for fields in rows) <= len(rows):
        return None
    # Its reader then asks for the header.
    return "question_table" if lacks_header(rows) else "knowledge_base"


def parsed(text: str) -> Any:
    """JSON, or None."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
