"""Pack queries and the passages that were read for them into JSON, for the table that the report's script shows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ragsmith.evaluate.answers import COLUMNS
from ragsmith.evaluate.report.cells import id_list, numbers, plain
from ragsmith.evaluate.report.reading import Library, Reading, answer_places, every_id, passage_texts, read_for
from ragsmith.evaluate.report.safe_json import safe_json

_MOST_EXPECTED = 20
_SCORES = (*COLUMNS, "score")


@dataclass(frozen=True)
class Detail:
    """How much of each query is kept.

    Attributes:
        passages: of those read, from the first on; the one with the answer is kept beside them.
        characters: of a passage's text; 0 keeps ids and titles.
        text: characters of a question or an answer.
        queries: at most, spread evenly over the test set; None for all.
    """

    passages: int
    characters: int
    text: int
    queries: int | None = None


# From everything to little. Passages weigh most, so they are cut first; queries are left out last.
LEVELS = (
    Detail(20, 20_000, 2_000),
    Detail(10, 3_000, 1_000),
    Detail(10, 1_200, 1_000),
    Detail(5, 800, 500),
    Detail(5, 500, 500),
    Detail(5, 300, 500),
    Detail(5, 200, 500),
    Detail(3, 200, 300),
    Detail(3, 120, 300),
    Detail(3, 0, 200),
    *(Detail(1, 0, 120, queries) for queries in (None, 5_000, 2_000, 500, 100)),
)


@dataclass(frozen=True)
class Packed:
    """The JSON of the table, and in words what it leaves out; nothing where it holds all."""

    json: str
    left_out: str


def pack_within(
    per_query: pd.DataFrame,
    passages: pd.DataFrame,
    budget: int,
    categories: Sequence[tuple[str, str, str]],
    levels: Sequence[Detail] = LEVELS,
) -> Packed:
    """The most detailed packing that fits.

    Args:
        per_query: as in `render_report`.
        passages: passage_id, title, text; those that `per_query` names are packed, each once.
        categories: key, name and meaning of each value of `per_query.category`, in the order to offer them in.
        budget: bytes of UTF-8. The least detailed packing comes back where even that is larger.
        levels: from the most detailed on, at least one.
    """
    # No level keeps more passages of a query than the first one.
    whole = [reading.first(levels[0].passages) for reading in read_for(per_query)]
    texts = passage_texts(passages, every_id(whole))
    for detail in levels:
        last = detail is levels[-1]
        places = spread(len(per_query), detail.queries)
        readings = [whole[place].first(detail.passages) for place in places]
        library = Library(every_id(readings), texts, detail.characters)
        # Writing 300 MB of JSON only to find it too long takes half a minute.
        if not last and library.estimate() > budget:
            continue
        packed = _pack(per_query.iloc[places], readings, library, len(per_query), detail, categories)
        if last or len(packed.json.encode("utf-8", "replace")) <= budget:
            break
    return packed


def spread(count: int, most: int | None) -> list[int]:
    """At most so many of `count` places, the first and the last among them, evenly spaced.

    >>> spread(10, 4), spread(3, None)
    ([0, 3, 6, 9], [0, 1, 2])
    """
    if most is None or count <= most:
        return list(range(count))
    return sorted(set(np.linspace(0, count - 1, most).round().astype(int).tolist()))


def _pack(
    shown: pd.DataFrame,
    readings: Sequence[Reading],
    library: Library,
    total: int,
    detail: Detail,
    categories: Sequence[tuple[str, str, str]],
) -> Packed:
    cut = _Cut(detail.text)
    block = {
        "columns": {
            "id": [plain(value) for value in shown["query_id"]],
            "query": [cut(value) for value in shown["query"]],
            "expected": [_expected(value, cut) for value in shown["expected"]],
            "answer": [cut(value) for value in shown["answer"]],
            **{name: numbers(shown[name]) for name in _SCORES if name in shown},
            **({"category": [plain(value) for value in shown["category"]]} if "category" in shown else {}),
        },
        # Lists, not objects: a system may have any name, also `__proto__`.
        "ranks": _family(shown, "rank_", numbers),
        "ndcg": _family(shown, "ndcg@10_", numbers),
        "conditions": _conditions(shown, cut),
        "slices": _family(shown, "slice_", lambda column: [cut(value) for value in column]),
        # [position among the passages, rank, posterior or null, right] of each that was read.
        "read": [[[library.places[i], *rest] for i, *rest in reading.read] for reading in readings],
        "missed": [[library.places[i] for i in reading.missed] for reading in readings],
        "spans": answer_places(shown, library, detail.text),
        "passages": library.columns,
        "categories": categories,
    }
    return Packed(safe_json(block), _left_out(total, len(shown), readings, library, cut))


class _Cut:
    """Cuts texts to a length and counts those that were longer."""

    def __init__(self, length: int) -> None:
        self.length, self.count = length, 0

    def __call__(self, value: Any) -> str:
        text = plain(value)
        if len(text) <= self.length:
            return text
        self.count += 1
        return text[: self.length - 1] + "…"


def _expected(value: Any, cut: _Cut) -> list[str]:
    if isinstance(value, str):
        return [cut(value)]
    return [cut(item) for item in id_list(value)[:_MOST_EXPECTED]]


def _family(shown: pd.DataFrame, prefix: str, pack: Callable[[Any], list[Any]]) -> list[dict[str, Any]]:
    names = [str(column) for column in shown.columns if str(column).startswith(prefix)]
    return [{"name": name.removeprefix(prefix), "values": pack(shown[name])} for name in names]


def _conditions(shown: pd.DataFrame, cut: _Cut) -> list[dict[str, Any]]:
    """Each other condition with its em, and f1 and answer where the table has them."""
    conditions = []
    for entry in _family(shown, "em_", numbers):
        condition = {"name": entry["name"], "em": entry["values"]}
        if (f1 := f"f1_{entry['name']}") in shown:
            condition["f1"] = numbers(shown[f1])
        if (answer := f"answer_{entry['name']}") in shown:
            condition["answer"] = [cut(value) for value in shown[answer]]
        conditions.append(condition)
    return conditions


def _left_out(total: int, count: int, readings: Sequence[Reading], library: Library, cut: _Cut) -> str:
    parts = []
    if count < total:
        parts.append(f"{count:,} of {total:,} queries are shown, spread evenly over the test set")
    if passed_over := sum(reading.passed_over for reading in readings):
        parts.append(f"{passed_over:,} passages that were read far down are not")
    if library.cut:
        length = f"cut to {library.kept:,} characters" if library.kept else "left out"
        parts.append(f"the texts of {library.cut:,} passages are {length}")
    if cut.count:
        parts.append(f"{cut.count:,} long questions or answers are cut to {cut.length:,} characters")
    return f"To keep this file small, {'; '.join(parts)}. per_query.parquet holds everything." if parts else ""
