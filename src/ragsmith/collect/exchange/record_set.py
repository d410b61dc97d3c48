"""What every exchange format is read to: documents in passages, and questions about them."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ragsmith.collect.documents import document_id

SOURCE = "records"


@dataclass(frozen=True)
class RecordDocument:
    """A document whose passages are given: they are never cut again.

    Attributes:
        uri: what names it within all records, such as `squad:Normans`; the same uri in two files is one document.
        title: what a reader calls it.
        passages: its distinct passages, verbatim, in their order.
    """

    uri: str
    title: str
    passages: tuple[str, ...]

    @property
    def document_id(self) -> str:
        """The id that it has in the table of documents."""
        return document_id(SOURCE, self.uri)


@dataclass(frozen=True)
class Answer:
    """An accepted answer.

    Attributes:
        text: as given.
        passage_id: the passage that it was marked in; empty when the file names none.
        start: its first character there; -1 without a passage.
    """

    text: str
    passage_id: str = ""
    start: int = -1


@dataclass(frozen=True)
class Layout:
    """What a line of JSON had beyond the question, so that it can be written as it was.

    Attributes:
        keys: in their order.
        bare: those whose texts were one string, not a list.
        extra: keys that no format knows, and those that a format knows but nothing here uses, with their values.
    """

    keys: tuple[str, ...]
    bare: frozenset[str]
    extra: Mapping[str, object]


@dataclass(frozen=True)
class RecordQuestion:
    """A question and the passages that were judged for it.

    Attributes:
        question_id: unique within a record set that was read from one file.
        text: as asked.
        positive_ids: passages that answer it; empty when the file knows of none.
        negative_ids: passages that the file says do not.
        positive_scores, negative_scores: one per id, or empty when the file has none.
        answers: short answers, if any.
        split: `train`, `dev` or `test` when the file's name says so, else None.
        origin: stem of the file.
        layout: only of JSONL.
    """

    question_id: str
    text: str
    positive_ids: tuple[str, ...]
    negative_ids: tuple[str, ...] = ()
    positive_scores: tuple[float, ...] = ()
    negative_scores: tuple[float, ...] = ()
    answers: tuple[Answer, ...] = ()
    split: str | None = None
    origin: str = ""
    layout: Layout | None = None


@dataclass(frozen=True)
class RecordSet:
    """Documents and the questions about them.

    Attributes:
        documents: each uri once.
        questions: in the order of the files.
    """

    documents: tuple[RecordDocument, ...] = ()
    questions: tuple[RecordQuestion, ...] = field(default=())

    def texts(self) -> dict[str, str]:
        """The text of each passage by its id."""
        return {
            passage_id(document.document_id, text): text for document in self.documents for text in document.passages
        }


def passage_id(of_document: str, text: str) -> str:
    """The id of a passage: of its document and its text, for within a document identical texts are one passage."""
    return "p-" + hashlib.sha256(f"{of_document}\n{text}".encode()).hexdigest()[:12]


def merged(sets: Iterable[RecordSet]) -> RecordSet:
    """One set of several: documents of one uri become one, with the passages of all."""
    titles: dict[str, str] = {}
    passages: dict[str, dict[str, None]] = {}  # in order, each once
    questions: list[RecordQuestion] = []
    for found in sets:
        questions += found.questions
        for document in found.documents:
            titles.setdefault(document.uri, document.title)
            passages.setdefault(document.uri, {}).update(dict.fromkeys(document.passages))
    documents = (RecordDocument(uri, title, tuple(passages[uri])) for uri, title in titles.items())
    return RecordSet(tuple(documents), tuple(questions))
