"""Tables of questions and answers that name no passage: text with a header, JSON by line, or Parquet."""

import ast
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ragsmith.collect.exchange.delimited import delimited_rows
from ragsmith.collect.exchange.record_set import Answer, RecordQuestion, RecordSet
from ragsmith.collect.exchange.source_text import (
    MAX_BYTES,
    Faults,
    is_text,
    numbered_lines,
    read_text,
    shown,
    split_of_name,
    stem,
)

# The first that is there counts.
QUESTION_NAMES = ("question", "query")
ANSWER_NAMES = ("answers", "answer", "targets", "target")
# With one of these, what answers the question is named: another format, and to drop that would be a pity.
PASSAGE_NAMES = frozenset("pos positive positives passage passages context contexts passage_id passage_ids".split())
DELIMITERS = ("\t", ",", ";")
PARQUET = b"PAR1"
BATCH_ROWS = 256
# A list of texts as JSON and as Python write it, which is how lists come into text tables.
_TEXT = r"""(?:"(?:[^"\\]|\\.)*+"|'(?:[^'\\]|\\.)*+')"""
_LIST = re.compile(rf"\[\s*+{_TEXT}(?:\s*+,\s*+{_TEXT})*+\s*+\]", re.DOTALL)
_MEANT_AS_LIST = re.compile(r"""\[\s*["'].*["']\s*\]""", re.DOTALL)

Row = tuple[int | str, Any, Any]


def read_question_table(path: Path, max_bytes: int = MAX_BYTES) -> RecordSet:
    """Read a question and its accepted answers from each row; the questions are about the knowledge base beside them.

    Columns are `question` or `query`, and `answers`, `answer`, `targets` or `target`, in upper or lower case; others
    are not read. Answers are one text or several; in a text table several stand in brackets, as JSON or Python write a
    list. Fields lie between TABs, commas or semicolons.

    Args:
        path: a text table with a header, JSONL, or Parquet; text may be packed by gzip.
        max_bytes: most that it may hold when unpacked.
    Raises:
        ValueError: it cannot be read, names no such columns, or rows lack a question or an answer: all faults by line
            (Parquet: by row), the first 20 shown.
    """
    faults = Faults(path)
    origin, split = stem(path), split_of_name(path)
    rows = parquet_rows(path, max_bytes) if is_parquet(path) else text_rows(read_text(path, max_bytes), faults)
    questions = []
    for where, question, given in rows:
        answers = [given] if isinstance(given, str) else given
        if not is_text(question):
            faults.add(where, f"the question is {shown(question)}, not a text")
        elif not isinstance(answers, list) or not answers or not all(is_text(answer) for answer in answers):
            faults.add(where, f"the answer is {shown(given)}, not a text or a list of texts")
        else:
            texts = dict.fromkeys(answer.strip() for answer in answers)
            questions.append(
                RecordQuestion(
                    question_id=f"{origin}:{where}",
                    text=question,
                    positive_ids=(),
                    answers=tuple(Answer(text) for text in texts),
                    split=split,
                    origin=origin,
                )
            )
    if not questions and not faults.found:
        faults.add(1, "no row is in it")
    faults.refuse()
    return RecordSet((), tuple(questions))


def answer_columns(names: Iterable[str]) -> tuple[str, str] | None:
    """The columns of question and answers; None when one is missing, or passages are named too.

    >>> answer_columns(["id", "Question", "answer"]), answer_columns(["question", "answer", "context"])
    (('Question', 'answer'), None)
    """
    by_name = {str(name).strip().casefold(): name for name in reversed(list(names))}
    question = next((by_name[name] for name in QUESTION_NAMES if name in by_name), None)
    answers = next((by_name[name] for name in ANSWER_NAMES if name in by_name), None)
    if question is None or answers is None or not PASSAGE_NAMES.isdisjoint(by_name):
        return None
    return question, answers


def header_delimiter(text: str) -> str | None:
    """What stands between the fields, if the first row is a header with the columns that are needed."""
    for delimiter in DELIMITERS:
        _, fields = next(delimited_rows(text, delimiter), (0, []))
        if answer_columns(fields):
            return delimiter
    return None


def lacks_header(rows: Iterable[list[str]]) -> bool:
    """Whether these are questions and answers: of most rows, the first of two fields asks, or the second is a list.

    Taken for titles and texts, the answers would be in the knowledge base.
    """
    pairs = [fields for fields in rows if len(fields) == 2]
    asking = sum(fields[0].rstrip().endswith("?") for fields in pairs)
    lists = sum(bool(_MEANT_AS_LIST.fullmatch(fields[1].strip())) for fields in pairs)
    return 2 * max(asking, lists) > len(pairs)


def text_rows(text: str, faults: Faults) -> Iterator[Row]:
    """Line, question and answers of each row; rows that have no such fields go to the faults."""
    delimiter = header_delimiter(text)
    if delimiter is None and not text.lstrip().startswith("{"):
        faults.add(1, "needs a header that names the columns, such as question and answer")
        return
    if delimiter is None:
        yield from jsonl_rows(text, faults)
        return
    rows = delimited_rows(text, delimiter)
    _, header = next(rows)
    asked, answers = (header.index(name) for name in answer_columns(header) or ())
    for number, fields in rows:
        if len(fields) != len(header):
            faults.add(number, f"has {len(fields)} fields, and the header has {len(header)}")
        elif (given := cell_answers(fields[answers])) is None:
            faults.add(number, f"the answer is {shown(fields[answers])}: a list needs commas between its texts")
        else:
            yield number, fields[asked], given


def jsonl_rows(text: str, faults: Faults) -> Iterator[Row]:
    """As `text_rows`, of JSON by line."""
    for number, line in numbered_lines(text):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            faults.add(number, f"not JSON ({str(error)[:120]})")
            continue
        columns = answer_columns(record) if isinstance(record, dict) else None
        if columns is None:
            faults.add(number, f"needs a question and an answer, and no passage; the record is {shown(record)}")
        else:
            yield number, record[columns[0]], record[columns[1]]


def cell_answers(cell: str) -> list[str] | None:
    """The answers in a field of a text table; None when it looks like a list and is none.

    >>> cell_answers("a, b"), cell_answers("['a', 'b']"), cell_answers('["a"]'), cell_answers("['a' 'b']")
    (['a, b'], ['a', 'b'], ['a'], None)
    """
    text = cell.strip()
    if not _MEANT_AS_LIST.fullmatch(text):
        return [cell]
    if not _LIST.fullmatch(text):
        return None
    for parse in (json.loads, ast.literal_eval):  # of nothing but texts: the pattern says so
        try:
            return list(parse(text))
        except (ValueError, SyntaxError):
            continue
    return None


def is_parquet(path: Path) -> bool:
    """Whether it begins as Parquet does."""
    with path.open("rb") as file:
        return file.read(len(PARQUET)) == PARQUET


def parquet_columns(path: Path, max_bytes: int) -> tuple[str, str] | None:
    """`answer_columns` of a Parquet file.

    Raises:
        ValueError: it is damaged, or holds more than `max_bytes` unpacked.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
            if sum(group.total_byte_size for group in groups) > max_bytes:
                raise too_large(path, max_bytes)
            return answer_columns(file.schema_arrow.names)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: not a whole Parquet file ({str(error)[:120]}). Get it again.") from error


def parquet_rows(path: Path, max_bytes: int) -> Iterator[Row]:
    """As `text_rows`, of Parquet, a few rows at a time: what a file says of its size need not be true."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = parquet_columns(path, max_bytes)
    if columns is None:
        raise ValueError(f"{path}: needs a column question and a column answer.")
    number, size = 0, 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=list(columns)):
                size += batch.nbytes
                if size > max_bytes:
                    raise too_large(path, max_bytes)
                for question, answers in zip(*(batch.column(name).to_pylist() for name in columns), strict=True):
                    number += 1
                    yield f"row {number}", question, answers
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a whole Parquet file ({str(error)[:120]}). Get it again.") from error


def too_large(path: Path, max_bytes: int) -> ValueError:
    """What is said of a file that holds too much."""
    return ValueError(
        f"{path}: holds more than {max_bytes:,} bytes. Split it, or raise data_collection.records.max_bytes."
    )
