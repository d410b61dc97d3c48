"""WikiQA: questions, and sentences of one article each, judged right or wrong."""

from pathlib import Path

from ragsmith.collect.exchange.record_set import RecordDocument, RecordQuestion, RecordSet, passage_id
from ragsmith.collect.exchange.source_text import (
    MAX_BYTES,
    UNSTORABLE,
    Faults,
    numbered_lines,
    read_text,
    shown,
    split_of_name,
    stem,
)

HEADER = ["QuestionID", "Question", "DocumentID", "DocumentTitle", "SentenceID", "Sentence", "Label"]


def read_wikiqa(path: Path, max_bytes: int = MAX_BYTES) -> RecordSet:
    r"""Read WikiQA's table (Yang et al., 2015): TAB between fields, quotation marks without meaning.

    A sentence is a passage, an article (`DocumentID`) a document. Sentences with label 1 answer the question, those
    with 0 are its given negatives; one that is labelled both is right. Questions without a right sentence are kept,
    without positives.

    Args:
        path: `QuestionID Question DocumentID DocumentTitle SentenceID Sentence Label`, with this header; may be
            packed by gzip.
        max_bytes: most that it may hold when unpacked.
    Raises:
        ValueError: it cannot be read (`read_text`), or rows are no such rows: all faults by line, the first 20 shown.
    """
    faults = Faults(path)
    lines = numbered_lines(read_text(path, max_bytes))
    if not lines or lines[0][1].split("\t") != HEADER:
        faults.add(lines[0][0] if lines else 1, f"needs the header {' '.join(HEADER)}, with TAB between the names")
        faults.refuse()
    rows: list[tuple[str, ...]] = []
    # What each id stood for first, and where: the same id for something else is a fault.
    first: dict[tuple[str, str], tuple[object, int]] = {}
    for number, line in lines[1:]:
        fields = line.split("\t")
        reason = row_fault(fields)
        if not reason:
            question_id, question, document, title, sentence_id, sentence, _ = fields
            meanings = {
                ("QuestionID", question_id): question,
                ("DocumentID", document): title,
                ("SentenceID", sentence_id): (document, sentence),
            }
            for (name, identity), meaning in meanings.items():
                known, where = first.setdefault((name, identity), (meaning, number))
                if known != meaning:
                    reason = f"{name} {shown(identity)} stands for something else in line {where}"
        if reason:
            faults.add(number, reason)
        else:
            rows.append(tuple(fields))
    if not rows and not faults.found:
        faults.add(lines[0][0], "no row follows the header")
    faults.refuse()
    return record_set(rows, path)


def row_fault(fields: list[str]) -> str:
    """What is wrong with one row taken alone; empty when nothing is."""
    if len(fields) != len(HEADER):
        return f"has {len(fields)} fields, not {len(HEADER)}"
    if any(UNSTORABLE.search(value) for value in fields):
        return "binary: it holds a NUL"
    if empty := [name for name, value in zip(HEADER, fields, strict=True) if not value.strip()]:
        return f"nothing stands in {', '.join(empty)}"
    return "" if fields[-1] in {"0", "1"} else f"Label is {shown(fields[-1])}, not 0 or 1"


def record_set(rows: list[tuple[str, ...]], path: Path) -> RecordSet:
    """The rows by document and by question, in the order in which they appear."""
    sentences: dict[tuple[str, str], list[str]] = {}
    judged: dict[tuple[str, str], dict[str, bool]] = {}
    for question_id, question, document, title, _, sentence, label in rows:
        sentences.setdefault((document, title), []).append(sentence)
        labels = judged.setdefault((question_id, question), {})
        identity = passage_id(RecordDocument(uri(document, title), title, ()).document_id, sentence)
        labels[identity] = labels.get(identity, False) or label == "1"
    documents = [
        RecordDocument(uri(document, title), title, tuple(dict.fromkeys(texts)))
        for (document, title), texts in sentences.items()
    ]
    origin, split = stem(path), split_of_name(path)
    questions = [
        RecordQuestion(
            question_id=f"{origin}:{question_id}",
            text=question,
            positive_ids=tuple(identity for identity, right in labels.items() if right),
            negative_ids=tuple(identity for identity, right in labels.items() if not right),
            split=split,
            origin=origin,
        )
        for (question_id, question), labels in judged.items()
    ]
    return RecordSet(tuple(documents), tuple(questions))


def uri(document: str, title: str) -> str:
    """With the title: two collections may both have a D1."""
    return f"wikiqa:{document}:{title}"
