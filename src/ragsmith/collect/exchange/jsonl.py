"""JSONL of queries with the texts that answer them and the texts that do not: the part that its dialects share."""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragsmith.collect.exchange.record_set import Layout, RecordDocument, RecordQuestion, RecordSet, passage_id
from ragsmith.collect.exchange.source_text import (
    Faults,
    is_text,
    numbered_lines,
    read_text,
    shown,
    split_of_name,
    stem,
)
from ragsmith.store import publish_file

TITLE_CHARACTERS = 80


@dataclass(frozen=True)
class Dialect:
    """The names of the keys in one JSONL format.

    Attributes:
        positive, negative: keys of the texts.
        positive_scores, negative_scores: keys of their scores.
    """

    positive: str
    negative: str
    positive_scores: str = "pos_scores"
    negative_scores: str = "neg_scores"

    @property
    def known(self) -> frozenset[str]:
        """Keys whose values a `RecordQuestion` holds."""
        return frozenset({"query", self.positive, self.negative, self.positive_scores, self.negative_scores})


def read_jsonl(path: Path, dialect: Dialect, max_bytes: int) -> RecordSet:
    """Read one record a line; each distinct text is a document of one passage, for nothing says where it comes from.

    Args:
        path: the file; may be packed by gzip.
        dialect: names of the keys.
        max_bytes: most that it may hold when unpacked.
    Raises:
        ValueError: it cannot be read (`read_text`), or lines are no such records: all faults, the first 20 shown.
    """
    faults = Faults(path)
    lines = numbered_lines(read_text(path, max_bytes))
    if not lines:
        faults.add(1, "no record is in it")
    documents: dict[str, RecordDocument] = {}
    questions = []
    for number, line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            faults.add(number, f"not JSON ({str(error)[:120]})")
            continue
        if reason := record_fault(record, dialect):
            faults.add(number, reason)
            continue
        questions.append(question(record, dialect, documents, f"{stem(path)}:{number}", path))
    faults.refuse()
    return RecordSet(tuple(documents.values()), tuple(questions))


def write_jsonl(records: RecordSet, dialect: Dialect, path: Path) -> None:
    """Write the questions that have a positive, one record a line, so that reading it gives the same again.

    What was read from JSONL is written with the keys, their order and the unknown values that it had.

    Args:
        records: from any format.
        dialect: names of the keys.
        path: where; published, so that it is whole or not there.
    Raises:
        FileExistsError: something that was not written by this project is there.
        ValueError: no question has a positive.
    """
    texts = records.texts()
    lines = [line(asked, dialect, texts) for asked in records.questions if asked.positive_ids]
    if not lines:
        raise ValueError(f"{path} was not written: no question of these records has a passage that answers it.")

    def write(place: Path) -> None:
        place.write_text("\n".join(lines) + "\n", "utf-8", newline="\n")  # Windows would write \r\n

    publish_file(path, write)


def line(asked: RecordQuestion, dialect: Dialect, texts: Mapping[str, str]) -> str:
    """A question as a line of JSON."""
    values: dict[str, Any] = {
        "query": asked.text,
        dialect.positive: [texts[identity] for identity in asked.positive_ids],
        dialect.negative: [texts[identity] for identity in asked.negative_ids],
    }
    if asked.positive_scores:
        values[dialect.positive_scores] = list(asked.positive_scores)
    if asked.negative_scores:
        values[dialect.negative_scores] = list(asked.negative_scores)
    layout = asked.layout
    if layout is None:
        return json.dumps(values, ensure_ascii=False)
    full = {key: value[0] if key in layout.bare else value for key, value in values.items() if value}
    # Of an empty value, what stood there tells a missing key from a null and an empty list.
    written = {key: {**layout.extra, **full}[key] for key in layout.keys if key in full or key in layout.extra}
    return json.dumps(written | full, ensure_ascii=False)


def record_fault(record: Any, dialect: Dialect) -> str:
    """What is wrong with one record; empty when nothing is."""
    if not isinstance(record, dict):
        return f"a record is {shown(record)}, not an object"
    if not is_text(record.get("query")):
        return f"query is {shown(record.get('query'))}, not a text"
    for key in (dialect.positive, dialect.negative):
        value = record.get(key)
        if not all(is_text(text) for text in as_list(value)):
            return f"{key} is {shown(value)}: it holds something that is not a text"
    if not as_list(record.get(dialect.positive)):
        return f"needs at least one text in {dialect.positive!r}"
    of_scores = {dialect.positive_scores: dialect.positive, dialect.negative_scores: dialect.negative}
    for key, of in of_scores.items():
        scores = record.get(key)
        if scores is None:
            continue
        if not isinstance(scores, list) or not all(is_score(score) for score in scores):
            return f"{key} is {shown(scores)}, not a list of finite numbers"
        if len(scores) != (count := len(as_list(record.get(of)))):
            return f"{key} has {len(scores)} scores for {count} texts in {of!r}"
    return ""


def question(
    record: dict[str, Any], dialect: Dialect, documents: dict[str, RecordDocument], identity: str, path: Path
) -> RecordQuestion:
    """A faultless record as a question; its texts go to the documents."""

    def passages(key: str) -> Iterator[str]:
        for text in as_list(record.get(key)):
            document = text_document(text)
            documents.setdefault(document.uri, document)
            yield passage_id(document.document_id, text)

    bare = frozenset(key for key in (dialect.positive, dialect.negative) if isinstance(record.get(key), str))
    # A null or an empty list says nothing, but it stood there.
    extra = {key: value for key, value in record.items() if key not in dialect.known or value in (None, [])}
    return RecordQuestion(
        question_id=identity,
        text=record["query"],
        positive_ids=tuple(passages(dialect.positive)),
        negative_ids=tuple(passages(dialect.negative)),
        positive_scores=tuple(record.get(dialect.positive_scores) or ()),
        negative_scores=tuple(record.get(dialect.negative_scores) or ()),
        split=split_of_name(path),
        origin=stem(path),
        layout=Layout(tuple(record), bare, extra),
    )


def text_document(text: str) -> RecordDocument:
    """A text that stands alone, as a document whose title is its beginning."""
    return RecordDocument(f"text:{hashlib.sha256(text.encode()).hexdigest()[:16]}", beginning(text), (text,))


def beginning(text: str) -> str:
    """The first words of a text: a title that a model need not read a second time.

    Never the whole of a line with several words: that would pass for a heading, from which queries are made.

    >>> beginning("Kidneys make urine. They lie below the ribs, one on each side of the spine, and have a cortex.")
    'Kidneys make urine. They lie below the ribs, one on each side of the spine, and'
    >>> beginning("Kidneys make urine.")
    'Kidneys make'
    """
    first = text.strip().partition("\n")[0].partition(" > ")[0].rstrip()
    # Up to the end of a word: `passage_inputs` compares whole words.
    ends = [match.end() for match in re.finditer(r"\w(?!\w)", first[: TITLE_CHARACTERS + 1])]
    within = [end for end in ends if end <= TITLE_CHARACTERS]
    if len(first) <= TITLE_CHARACTERS and len(within) > 1:
        within.pop()
    return first[: within[-1]] if within else first[:TITLE_CHARACTERS]


def as_list(value: Any) -> list[Any]:
    """The texts under a key: a list as it is, one string as a list of one, nothing as none."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def is_score(value: object) -> bool:
    """Whether it is a number that can be compared."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
