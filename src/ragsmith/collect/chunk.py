"""Passages: pieces of documents, each an exact slice of its document."""

import hashlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pandas as pd

from ragsmith.collect.sections import sections

if TYPE_CHECKING:
    from semantic_text_splitter import TextSplitter
    from tokenizers import Tokenizer

# A long run without spaces is one unknown token to many tokenizers, and then any length would fit.
MAX_CHARACTERS_PER_TOKEN = 16
# Longer sections are cut at white space first: the splitter's time grows faster than the text.
LONGEST_STRETCH = 50_000
PASSAGE_COLUMNS = ["passage_id", "document_id", "title", "text", "start", "end", "page"]


def chunk_documents(
    documents: pd.DataFrame, tokenizer: "Tokenizer | None", max_tokens: int, overlap: int, min_characters: int
) -> pd.DataFrame:
    """Cut documents into passages: one per section, long sections in several.

    Args:
        documents: document_id, title, text, markup, pages.
        tokenizer: counts the tokens; None counts characters, four to a token.
        max_tokens: longest passage, at least 16, of at most 16 characters a token. Sections up to it stay whole.
        overlap: tokens that neighbouring pieces of one long section share; below `max_tokens`.
        min_characters: shorter pieces are dropped: a lone heading answers nothing.
    Returns:
        passage_id (of document, offsets and text: it changes when the text does), document_id, title (the document's
        and the headings above the passage), text, start, end (characters in the document:
        `text == document[start:end]`), page (1 is the first); in document order.
    Raises:
        ValueError: `overlap` is not below `max_tokens`, or no passage is left.
    """
    if overlap >= max_tokens:
        raise ValueError(f"overlap ({overlap}) must be below max_tokens ({max_tokens}).")
    splitter, length = text_splitter(tokenizer, max_tokens, overlap)
    rows = []
    for document in documents.itertuples(index=False):
        for section in sections(document.text, document.markup):
            piece = document.text[section.start : section.end]
            short = len(piece) <= MAX_CHARACTERS_PER_TOKEN * max_tokens and length(piece) <= max_tokens
            for offset, chunk in [(0, piece)] if short else pieces(piece, splitter, max_tokens):
                # A section that is only its heading has nothing to say.
                if len(chunk) < min_characters or chunk.rstrip("# \t") == section.heading.rstrip("#"):
                    continue
                start = section.start + offset
                rows.append(passage_row(document, section.path, start, chunk))
    if not rows:
        raise ValueError(
            "No passage is left: every section is shorter than min_characters, or the documents are empty."
        )
    return pd.DataFrame(rows, columns=PASSAGE_COLUMNS)


def pieces(text: str, splitter: "TextSplitter", max_tokens: int) -> Iterator[tuple[int, str]]:
    """Offset and text of each piece of a long section, in order."""
    longest = MAX_CHARACTERS_PER_TOKEN * max_tokens
    begin = 0
    while begin < len(text):
        end = begin + LONGEST_STRETCH
        if end < len(text):
            stretch = text[begin:end]
            end = begin + (stretch.rfind("\n") + 1 or stretch.rfind(" ") + 1 or LONGEST_STRETCH)
        for offset, chunk in splitter.chunk_indices(text[begin:end]):
            for start in range(0, len(chunk), longest):
                yield begin + offset + start, chunk[start : start + longest]
        begin = end


def passage_row(document: object, path: tuple[str, ...], start: int, text: str) -> dict[str, object]:
    """One row of the table of passages."""
    title, document_id, pages = (getattr(document, name) for name in ("title", "document_id", "pages"))
    end = start + len(text)
    identity = f"{document_id}\n{start}\n{end}\n{text}"
    names = list(path) if path and path[0] == title else [title, *path]
    # The innermost name of an API reference holds its module already: "shutil.rmtree", not "shutil > shutil.rmtree".
    if len(names) > 1 and names[-1].startswith(names[-2] + "."):
        names.pop(-2)
    return {
        "passage_id": "p-" + hashlib.sha256(identity.encode()).hexdigest()[:12],
        "document_id": document_id,
        "title": " > ".join(names),
        "text": text,
        "start": start,
        "end": end,
        "page": sum(1 for page in pages if page <= start),
    }


def text_splitter(
    tokenizer: "Tokenizer | None", max_tokens: int, overlap: int
) -> "tuple[TextSplitter, Callable[[str], int]]":
    """The splitter for long sections and the function that measures a text in the same unit."""
    from semantic_text_splitter import TextSplitter

    if tokenizer is None:

        def measure(text: str) -> int:
            return (len(text) + 3) // 4

        return TextSplitter.from_callback(measure, max_tokens, overlap), measure

    # A copy: the model's own tokenizer may truncate, and then every long text would seem to fit.
    counting = type(tokenizer).from_str(tokenizer.to_str())
    counting.no_truncation()
    counting.no_padding()

    def count(text: str) -> int:
        return len(counting.encode(text, add_special_tokens=False).ids)

    return TextSplitter.from_huggingface_tokenizer(counting, max_tokens, overlap), count
