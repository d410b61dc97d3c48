"""The table of documents: one row per web page, file, record or module."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

DOCUMENT_COLUMNS = [
    "document_id",
    "source",
    "uri",
    "title",
    "text",
    "markup",
    "pages",
    "sha256",
    "fetched_at",
    "licence",
]


@dataclass(frozen=True)
class Document:
    """One document before it has an id.

    Attributes:
        source: name of the source that found it: `sample`, `folder` or `records`.
        uri: where it is, unique within its source, such as `python:shutil` or `guide/setup.md`.
        title: what a reader calls it.
        text: its whole text; passages are exact slices of it.
        markup: `markdown` when headings are to be read from the text, else `plain`.
        fetched_at: ISO 8601 time of the content (a file's modification time), or empty.
        licence: SPDX name or empty.
    """

    source: str
    uri: str
    title: str
    text: str
    markup: str = "plain"
    fetched_at: str = ""
    licence: str = ""


def document_id(source: str, uri: str) -> str:
    """The id of what a source calls by this uri."""
    return "d-" + hashlib.sha256(f"{source}\n{uri}".encode()).hexdigest()[:12]


def document_table(documents: Iterable[Document]) -> pd.DataFrame:
    """Documents as a table with ids that stay the same while source and uri stay the same.

    Args:
        documents: in any order; a uri may occur once per source.
    Returns:
        document_id, source, uri, title, text, markup, pages (offset of each page's first character), sha256 of the
        text, fetched_at, licence; ordered by source and uri.
    Raises:
        ValueError: two documents of one source share a uri.
    """
    rows = []
    for document in sorted(documents, key=lambda found: (found.source, found.uri)):
        rows.append(
            {
                "document_id": document_id(document.source, document.uri),
                "source": document.source,
                "uri": document.uri,
                "title": document.title,
                "text": document.text,
                "markup": document.markup,
                "pages": [0],
                "sha256": hashlib.sha256(document.text.encode()).hexdigest(),
                "fetched_at": document.fetched_at,
                "licence": document.licence,
            }
        )
    table = pd.DataFrame(rows, columns=DOCUMENT_COLUMNS)
    doubles = table.loc[table["document_id"].duplicated(), "uri"]
    if len(doubles):
        raise ValueError(f"Two documents of one source share the uri {doubles.iloc[0]!r}. Give each its own.")
    return table
