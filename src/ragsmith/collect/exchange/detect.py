"""Which exchange format a file is in: its content says, not its name."""

import itertools
import json
from pathlib import Path
from typing import Any, Literal

from ragsmith.collect.exchange import knowledge_base
from ragsmith.collect.exchange.delimited import delimited_rows
from ragsmith.collect.exchange.source_text import MAX_BYTES, numbered_lines, read_text

Format = Literal["wikiqa", "squad", "flagembedding", "query_pairs", "knowledge_base"]
# A JSONL file whose first line is damaged is still JSONL: its reader then says what is wrong with that line.
LINES_TRIED = 20
TABLES = (".csv", ".tsv")


def detect_format(path: Path, max_bytes: int = MAX_BYTES) -> Format | None:
    """The format of a file, or None when it is in none that is known.

    Args:
        path: the file; may be packed by gzip.
        max_bytes: most that it may hold when unpacked.
    Raises:
        ValueError: it is too large, damaged or not UTF-8.
    """
    text = read_text(path, max_bytes)
    lines = numbered_lines(text)[:LINES_TRIED]
    if not lines:
        return None
    if {"QuestionID", "Sentence"} <= set(lines[0][1].split("\t")):
        return "wikiqa"
    for _, line in lines:
        record = parsed(line)
        if isinstance(record, dict) and "query" in record:
            if "pos" in record:
                return "flagembedding"
            if "positive" in record:
                return "query_pairs"
    if is_knowledge_base(path, text):
        return "knowledge_base"
    # Pretty-printed or in one line: the whole is one object. Looked for last, for it is the costly test.
    if not text.lstrip().startswith("{"):
        return None
    whole = parsed(text)
    if isinstance(whole, dict):
        return "squad" if isinstance(whole.get("data"), list) else None
    # Damaged, but with the words of SQuAD: its reader names the line.
    return "squad" if whole is None and '"paragraphs"' in text[:10_000] else None


def is_knowledge_base(path: Path, text: str) -> bool:
    """Whether it is a table by its name, and most of the first rows are a title, a TAB and a text."""
    if not path.name.lower().removesuffix(".gz").endswith(TABLES):
        return False
    rows = itertools.islice(delimited_rows(text, knowledge_base.DELIMITER), LINES_TRIED)
    fitting = [len(fields) == len(knowledge_base.FIELDS) for _, fields in rows]
    return 2 * sum(fitting) > len(fitting)


def parsed(text: str) -> Any:
    """JSON, or None."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
