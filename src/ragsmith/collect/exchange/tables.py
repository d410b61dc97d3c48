"""Records as the tables that data collection works on."""

import pandas as pd

from ragsmith.collect.chunk import PASSAGE_COLUMNS
from ragsmith.collect.documents import Document
from ragsmith.collect.exchange.record_set import SOURCE, RecordSet, passage_id

QUESTION_COLUMNS = [
    "text",
    "passage_ids",
    "positive_scores",
    "negative_ids",
    "negative_scores",
    "answers",
    "split",
    "origin",
]
# Between the passages of a document's text.
BETWEEN = "\n\n"


def record_documents(records: RecordSet) -> list[Document]:
    """The documents, each with the text of all its passages."""
    return [
        Document(SOURCE, document.uri, document.title, BETWEEN.join(document.passages))
        for document in records.documents
    ]


def record_passages(records: RecordSet) -> pd.DataFrame:
    """The passages at the boundaries that they were given with.

    Returns:
        passage_id, document_id, title (the document's), text, start, end (characters in the text that
        `record_documents` gives the document: `text == document[start:end]`), page (1).
    """
    rows = []
    for document in records.documents:
        start, of = 0, document.document_id
        for text in document.passages:
            end = start + len(text)
            rows.append([passage_id(of, text), of, document.title, text, start, end, 1])
            start = end + len(BETWEEN)
    return pd.DataFrame(rows, columns=PASSAGE_COLUMNS)


def record_questions(records: RecordSet) -> pd.DataFrame:
    """The questions.

    Returns:
        text, passage_ids (that answer it), positive_scores (one per id, or none), negative_ids, negative_scores (so
        too), answers (short ones, or none), split (of the file's name, or empty), origin (the file's stem).
    """
    rows = [
        [
            asked.text.strip(),
            list(asked.positive_ids),
            [float(score) for score in asked.positive_scores],
            list(asked.negative_ids),
            [float(score) for score in asked.negative_scores],
            list(dict.fromkeys(answer.text for answer in asked.answers)),
            asked.split or "",
            asked.origin,
        ]
        for asked in records.questions
    ]
    return pd.DataFrame(rows, columns=QUESTION_COLUMNS)
