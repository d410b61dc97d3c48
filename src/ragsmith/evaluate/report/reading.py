"""What was read for each query, and the passages that this takes: each once, and cut to a length."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ragsmith.evaluate._checks import listed
from ragsmith.evaluate.report.cells import cells, id_list, number, plain
from ragsmith.retrieve.passage_text import passage_inputs

# Right passages that were not read are what retrieval missed; a few show it.
_MOST_MISSED = 2
_MOST_TITLE = 300
_AROUND_ANSWER = 120


@dataclass(frozen=True)
class Reading:
    """What was read for a query: (passage_id, rank, posterior, right) each, and right ones that were not."""

    read: list[tuple[str, int, float | None, bool]]
    missed: list[str]
    answered: str
    passed_over: int = 0

    def first(self, count: int) -> "Reading":
        """The first ones, and always the one that the answer was read in."""
        kept = [row for row in self.read if row[1] <= count or row[0] == self.answered]
        passed_over = self.passed_over + len(self.read) - len(kept)
        return Reading(kept, self.missed, self.answered, passed_over)


def every_id(readings: Sequence[Reading]) -> list[str]:
    """The passages of all readings, each once, in order of appearance."""
    every = (i for reading in readings for i in (*(row[0] for row in reading.read), *reading.missed))
    return list(dict.fromkeys(every))


def read_for(per_query: pd.DataFrame) -> list[Reading]:
    """What was read for each query.

    Args:
        per_query: passage_ids, right_ids, posteriors (lists) and passage_id, as far as the table has them.
    """
    columns = (cells(per_query, name) for name in ("passage_ids", "right_ids", "posteriors", "passage_id"))
    readings = []
    for passage_ids, right_ids, posteriors, answered in zip(*columns, strict=True):
        ids, right, source = id_list(passage_ids), id_list(right_ids), plain(answered)
        if source and source not in ids:  # a table that tells only where the answer was read
            ids = [*ids, source]
        weights = listed(posteriors)
        rows = [
            (passage_id, rank, number(weights[rank - 1]) if rank <= len(weights) else None, passage_id in right)
            for rank, passage_id in enumerate(ids, start=1)
        ]
        missed = [passage_id for passage_id in right if passage_id not in ids][:_MOST_MISSED]
        readings.append(Reading(rows, missed, source))
    return readings


@dataclass(frozen=True)
class PassageText:
    """A passage: `seen` is what the reader saw, and `text` begins at `begins` in it."""

    title: str
    text: str
    seen: str
    begins: int


def passage_texts(passages: pd.DataFrame, ids: Sequence[str]) -> dict[str, PassageText]:
    """Those of these passages that the table holds, by id."""
    known = passages[passages["passage_id"].isin(set(ids))].drop_duplicates("passage_id")
    table = pd.DataFrame({name: [plain(value) for value in known[name]] for name in ("title", "text")})
    rows = zip(known["passage_id"], table["title"], table["text"], passage_inputs(table), strict=True)
    return {str(i): PassageText(title, text, seen, len(seen) - len(text)) for i, title, text, seen in rows}


class Library:
    """The passages that the shown queries name: each once, its text cut.

    Attributes:
        places: position of each passage_id in `columns`.
        texts: the whole passages, by id.
        kept: characters of a text.
        cut: how many texts were longer.
        columns: ids, titles, texts; begins (where the text begins in what the reader saw, in UTF-16 units); lengths
            (of the whole text where it was cut, 0 where it was not, -1 where the table lacks the passage).
    """

    def __init__(self, ids: list[str], texts: dict[str, PassageText], kept: int) -> None:
        self.texts, self.kept = texts, kept
        self.places = {passage_id: place for place, passage_id in enumerate(ids)}
        found = [texts.get(passage_id) for passage_id in ids]
        self.cut = sum(passage is not None and len(passage.text) > self.kept for passage in found)
        self.shown = [passage.text[: self.kept] if passage else "" for passage in found]
        self.columns = {
            "ids": ids,
            "titles": [passage.title[:_MOST_TITLE] if passage else "" for passage in found],
            "texts": self.shown,
            "begins": [_units(passage.seen[: passage.begins]) if passage else 0 for passage in found],
            "lengths": [
                -1 if passage is None else len(passage.text) if len(passage.text) > self.kept else 0
                for passage in found
            ],
        }

    def estimate(self) -> float:
        """About how many bytes of JSON the texts take, judged by 200 of them and rather too low."""
        texts = self.shown
        some = texts[:: max(len(texts) // 200, 1)]
        written = len(json.dumps(some, ensure_ascii=False).encode("utf-8", "replace"))
        return 0.8 * written / max(sum(map(len, some)), 1) * sum(map(len, texts))


def answer_places(shown: pd.DataFrame, library: Library, most: int) -> list[list[Any]]:
    """The place of each answer: position of its passage, start and end in UTF-16 units, as scripts count.

    Before, answer and after follow where the text was cut before its end; start and all that follows are missing where
    the passage does not hold the place, and everything is where no answer was read.

    Args:
        shown: passage_id, start, end, as far as the table has them.
        library: of the queries shown.
        most: characters of an answer that stands below the cut.
    """
    places: list[list[Any]] = []
    for source, start, end in zip(*(cells(shown, name) for name in ("passage_id", "start", "end")), strict=True):
        passage_id = plain(source)
        if passage_id not in library.places:
            places.append([])
            continue
        position, passage = library.places[passage_id], library.texts.get(passage_id)
        first, last = (-1 if place is None else int(place) for place in (number(start), number(end)))
        if passage is None or not 0 <= first < last <= len(passage.seen):
            places.append([position])
            continue
        seen = passage.seen
        span: list[Any] = [position, _units(seen[:first]), _units(seen[:last])]
        if last - passage.begins > library.kept:
            around = seen[max(0, first - _AROUND_ANSWER) : first], seen[last : last + _AROUND_ANSWER]
            span += [around[0], seen[first:last][:most], around[1]]
        places.append(span)
    return places


def _units(text: str) -> int:
    """Length in UTF-16 units: what JavaScript calls the length of a string."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2
