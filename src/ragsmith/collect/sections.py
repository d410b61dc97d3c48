"""Where the sections of a document begin: Markdown headings, with exact character offsets."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

HEADING = re.compile(r"^(#{1,6})[ \t]+(.*)$")
# Number signs at the end close a heading only after a space: "# Learning C#" keeps its own.
CLOSING = re.compile(r"(?:^|[ \t])#+$")
# A second run of backticks on the line makes it inline code.
FENCE = re.compile(r"^ {0,3}(`{3,}(?=[^`]*$)|~{3,})")
# What str.splitlines also breaks at (form feed, U+2028) ends no line of Markdown.
LINE = re.compile(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+")
CALL = re.compile(r"^([A-Za-z_][\w.]*)\(.*$", re.DOTALL)


@dataclass(frozen=True)
class Section:
    """A stretch of a document under one heading.

    Attributes:
        path: the headings above it and its own, outermost first; empty before the first heading.
        heading: its own heading as written, without the number signs; empty before the first.
        start: offset of the heading's text (the number signs left out).
        end: offset after its last character that is not white space.
    """

    path: tuple[str, ...]
    heading: str
    start: int
    end: int


def heading_name(heading: str) -> str:
    """A heading as a name: of a call's signature, the qualified name.

    >>> heading_name("shutil.disk_usage(path)"), heading_name("Copying files")
    ('shutil.disk_usage', 'Copying files')
    >>> heading_name("Copying files ##")  # closed, as it stands in a passage
    'Copying files'
    """
    call = CALL.match(heading)
    return call.group(1) if call else without_closing(heading)


def without_closing(heading: str) -> str:
    """A heading without the number signs that may close it."""
    return CLOSING.sub("", heading.rstrip()).rstrip()


def sections(text: str, markup: str) -> Iterator[Section]:
    """The sections of a document, in order; together they hold all of its text but the heading marks.

    Only headings marked by number signs count (the ATX form of CommonMark), and not those inside fenced code.

    Args:
        text: the document's text.
        markup: `markdown`, or `plain` for a text that is one section.
    """
    if markup != "markdown":
        if span := trimmed(text, 0, len(text)):
            yield Section((), "", *span)
        return
    path: list[tuple[int, str]] = []
    begin, heading, fence, offset = 0, "", "", 0
    for line in LINE.findall(text):
        content = line.rstrip("\r\n")
        if mark := FENCE.match(content):
            if not fence:
                fence = mark.group(1)
            elif mark.group(1).startswith(fence) and content.strip() == mark.group(1):
                fence = ""
        found = None if fence else HEADING.match(content)
        if found and (own := without_closing(found.group(2))):
            if span := trimmed(text, begin, offset):
                yield Section(tuple(name for _, name in path), heading, *span)
            level, heading = len(found.group(1)), own
            path = [(above, name) for above, name in path if above < level] + [(level, heading_name(heading))]
            begin = offset + found.start(2)
        offset += len(line)
    if span := trimmed(text, begin, len(text)):
        yield Section(tuple(name for _, name in path), heading, *span)


def trimmed(text: str, start: int, end: int) -> tuple[int, int] | None:
    """The span without white space at its ends, or None when nothing is left."""
    piece = text[start:end]
    if not piece.strip():
        return None
    return start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())
