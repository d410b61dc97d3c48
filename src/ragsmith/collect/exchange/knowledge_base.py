"""rag-end2end-retriever's knowledge base: a table of titles and texts, cut into passages of a hundred words."""

from pathlib import Path

from ragsmith.collect.exchange.delimited import delimited_rows
from ragsmith.collect.exchange.jsonl import text_document
from ragsmith.collect.exchange.record_set import RecordDocument, RecordSet, merged
from ragsmith.collect.exchange.source_text import MAX_BYTES, UNSTORABLE, Faults, read_text, shown

WORDS = 100
DELIMITER = "\t"
FIELDS = ["title", "text"]


def read_knowledge_base(path: Path, max_bytes: int = MAX_BYTES) -> RecordSet:
    """Read `title TAB text`, a row each; there is no header, but one that says title and text is passed over.

    Rows of one title are one document, and a text is cut as the original does it (`split_text`). A text without title
    is a document of its own. Unlike there, quotation marks inside a text stay.

    Args:
        path: the table; may be packed by gzip.
        max_bytes: most that it may hold when unpacked.
    Raises:
        ValueError: it cannot be read (`read_text`), or rows have no TAB or several, no text, or the title and text of
            another row: all faults by line, the first 20 shown.
    Source:
        use_own_knowledge_dataset.py of rag-end2end-retriever (huggingface/transformers-research-projects).
    """
    faults = Faults(path)
    first: dict[tuple[str, str], int] = {}
    documents = []
    for number, fields in delimited_rows(read_text(path, max_bytes), DELIMITER):
        if not first and [field.strip().casefold() for field in fields] == FIELDS:
            continue
        if reason := row_fault(fields):
            faults.add(number, reason)
            continue
        title, text = " ".join(fields[0].split()), fields[1].strip()
        if (known := first.setdefault((title, text), number)) != number:
            faults.add(number, f"title and text are those of line {known}: keep one row")
            continue
        alone = text_document(text)
        of_title = RecordDocument(f"knowledge_base:{title}", title, ()) if title else alone
        documents.append(RecordDocument(of_title.uri, of_title.title, split_text(text)))
    if not documents and not faults.found:
        faults.add(1, "no row is in it")
    faults.refuse()
    return merged([RecordSet((document,)) for document in documents])


def row_fault(fields: list[str]) -> str:
    """What is wrong with one row taken alone; empty when nothing is."""
    if len(fields) == 1:
        return f"needs a TAB between title and text; the row is {shown(fields[0])}"
    if len(fields) != len(FIELDS):
        return f"has {len(fields)} fields between TABs, not title and text alone"
    if any(UNSTORABLE.search(value) for value in fields):
        return "binary: it holds a NUL"
    return "" if fields[1].strip() else f"nothing stands in the text of {shown(fields[0])}"


def split_text(text: str, words: int = WORDS) -> tuple[str, ...]:
    """A text cut after every hundredth space-separated word, without overlap.

    Only the space separates, as in the original: a line end is within a word.

    >>> split_text("a b c d e", words=2)
    ('a b', 'c d', 'e')
    """
    parts = text.split(" ")
    cut = (" ".join(parts[start : start + words]).strip() for start in range(0, len(parts), words))
    return tuple(passage for passage in cut if passage)
