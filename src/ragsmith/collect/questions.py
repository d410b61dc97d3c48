"""Questions written by hand, each with the passages that answer it: the gold that everything is judged by."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

GOLD_COLUMNS = ["query_id", "text", "passage_ids", "answers", "document_ids", "file"]
# Who says which passages answer a question: a person, nobody but the answers that they hold, or nobody at all.
JUDGED, DISTANT, ANSWERS = "judged", "distant", "answers"
SAMPLE_QUESTIONS = Path(__file__).with_name("sample_questions.jsonl")
SAMPLE_EXAMPLES = Path(__file__).with_name("sample_examples.jsonl")


@dataclass(frozen=True)
class Question:
    """One line of a file of questions.

    Attributes:
        text: the question as asked.
        passages: what answers it: titles of passages (the last part of the title is enough).
        answers: the accepted short answers; the names of the passages when the file gives none.
        where: file and line, for messages.
    """

    text: str
    passages: tuple[str, ...]
    answers: tuple[str, ...]
    where: str


def read_questions(path: Path) -> list[Question]:
    """Read a JSONL file of `{"query": …, "passages": […], "answers": […]}` (answers may be left out).

    Raises:
        ValueError: a line is no such record, or a question occurs twice; all faults are listed (the first 20).
    """
    questions, faults, seen = [], [], set()
    try:
        # Not splitlines: a question may hold U+2028. utf-8-sig: editors on Windows put a byte-order mark first.
        lines = path.read_text("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path.name}:{number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            faults.append(f"{where}: not JSON ({error})")
            continue
        if not isinstance(record, dict) or not isinstance(record.get("query"), str) or not record["query"].strip():
            faults.append(f"{where}: needs a question under 'query'")
            continue
        lists = [record.get(name, []) for name in ("passages", "answers")]
        if not all(
            isinstance(items, list) and all(isinstance(item, str) and item for item in items) for items in lists
        ):
            faults.append(f"{where}: 'passages' and 'answers' are lists of strings")
        elif not lists[0]:
            faults.append(f"{where}: needs at least one entry in 'passages'")
        elif record["query"].strip().casefold() in seen:
            faults.append(f"{where}: asked before: {record['query']!r}")
        else:
            names = tuple(lists[1]) or tuple(lists[0])
            questions.append(Question(record["query"].strip(), tuple(lists[0]), names, where))
        seen.add(record["query"].strip().casefold())
    if faults:
        shown = "\n  ".join(faults[:20])
        raise ValueError(f"{path} has {len(faults)} faults:\n  {shown}")
    return questions


def question_files(folder: Path, sample: Path | None) -> list[Path]:
    """The JSONL files of a folder, which need not exist; when there are none, that of the sample corpus, if any."""
    files = sorted(folder.glob("*.jsonl")) if folder.is_dir() else []
    return files or ([sample] if sample is not None else [])


def query_id(text: str) -> str:
    """The id of a question written by hand."""
    return "g-" + hashlib.sha256(text.encode()).hexdigest()[:12]


def example_id(of_question: str) -> str:
    """The id that a question has as an example to train on.

    >>> example_id("g-0123456789ab")
    'e-0123456789ab'
    """
    return "e-" + of_question.partition("-")[2]


def resolve_questions(questions: list[Question], passages: pd.DataFrame) -> tuple[pd.DataFrame, list[dict[str, str]]]:
    """Find the passages that the questions name.

    A name stands for the passage whose title is it or ends in it (" > name"); of a long section, for its first piece:
    that one says what the section is about.

    Args:
        questions: from `read_questions`.
        passages: passage_id, document_id, title, start.
    Returns:
        query_id, text, passage_ids, answers, document_ids, file (its stem), one row per question of which something
        was found; and the names that were not found, as {"question", "passage", "where"} rows (another Python version
        lacks some).
    Raises:
        ValueError: two files ask the same question.
    """
    first_asked: dict[str, str] = {}
    for question in questions:
        first = first_asked.setdefault(question.text.casefold(), question.where)
        if first != question.where:
            raise ValueError(f"{question.where} asks what {first} asks: {question.text!r}. Keep one of them.")
    by_name: dict[str, list[tuple[str, str]]] = {}
    firsts = passages.sort_values(["document_id", "start"], kind="stable").drop_duplicates(["document_id", "title"])
    for row in firsts.itertuples(index=False):
        for name in {row.title, row.title.rpartition(" > ")[2]}:
            by_name.setdefault(name, []).append((row.passage_id, row.document_id))
    rows, missing = [], []
    for question in questions:
        found = [hit for name in question.passages for hit in by_name.get(name, [])]
        missing += [
            {"question": question.text, "passage": name, "where": question.where}
            for name in question.passages
            if name not in by_name
        ]
        if found:
            rows.append(
                {
                    "query_id": query_id(question.text),
                    "text": question.text,
                    "passage_ids": list(dict.fromkeys(passage_id for passage_id, _ in found)),
                    "answers": list(question.answers),
                    "document_ids": sorted({document_id for _, document_id in found}),
                    "file": Path(question.where.rpartition(":")[0]).stem,
                }
            )
    return pd.DataFrame(rows, columns=GOLD_COLUMNS), missing


def for_training(
    questions: pd.DataFrame, splits: pd.DataFrame, gold: pd.DataFrame
) -> tuple[pd.DataFrame, dict[str, int]]:
    """The example questions that training may use: about training documents alone, and none that is gold.

    Args:
        questions: from `resolve_questions`.
        splits: document_id, split.
        gold: text, of the gold questions.
    Returns:
        The questions kept; and how many were left out, by reason.
    """
    train = set(splits.loc[splits["split"] == "train", "document_id"])
    inside = questions["document_ids"].map(lambda documents: set(documents) <= train).astype(bool)
    asked = questions["text"].str.casefold().isin(set(gold["text"].str.casefold()))
    left_out = {
        "not about training documents alone": int((~inside).sum()),
        "a gold question": int((inside & asked).sum()),
    }
    return questions[inside & ~asked].reset_index(drop=True), left_out
