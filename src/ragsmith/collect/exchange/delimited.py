"""Rows of a table that is text: fields between TABs, commas or semicolons, and where each row begins."""

import re
from collections.abc import Iterator

# What a field in quotation marks holds, where the mark that closes it really ends the field.
_QUOTED = re.compile(r'"((?:[^"]++|"")*+)"')


def delimited_rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    r"""Each row that is not blank, with the number of its first line.

    Fields may be in quotation marks, and then hold delimiters, line ends and doubled marks (RFC 4180). A mark that
    opens a field and is not closed at a field's end is a part of the text: Wikipedia's tables are full of such texts,
    and the csv module would join everything up to the next mark to one field.

    Args:
        text: the whole table.
        delimiter: one character.

    >>> list(delimited_rows('a,"b\n""c"", d"\n\n"He" said,e\r\n', ","))
    [(1, ['a', 'b\n"c", d']), (4, ['"He" said', 'e'])]
    """
    ends = re.compile(f"[{re.escape(delimiter)}\n]")
    place, line = 0, 1
    while place < len(text):
        fields, first = [], line
        while True:
            quoted = _QUOTED.match(text, place)
            if quoted and (found := _field_end(text, quoted.end(), delimiter)) is not None:
                value, stop = quoted[1].replace('""', '"'), found
                line += quoted[1].count("\n")
            else:
                match = ends.search(text, place)
                stop = match.start() if match else len(text)
                value = text[place:stop]
                if text[stop : stop + 1] != delimiter:
                    value = value.removesuffix("\r")
            fields.append(value)
            place = stop + 1
            if text[stop : stop + 1] != delimiter:
                break
        line += 1
        if any(field.strip() for field in fields):
            yield first, fields


def _field_end(text: str, place: int, delimiter: str) -> int | None:
    """Where the field ends whose closing mark stands before `place`; None when text follows the mark."""
    stop = place + 1 if text.startswith("\r\n", place) else place
    return stop if stop >= len(text) or text[stop] in {delimiter, "\n"} else None
