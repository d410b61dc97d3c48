"""Questions with what was retrieved for them, and where their answers stand."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import pandas as pd

from ragsmith.read.extractive import EncodedPair
from ragsmith.read.reading import ReadingPassage
from ragsmith.retrieve.passage_text import passage_inputs


@dataclass(frozen=True)
class ReadingExample:
    """A question with the passages that were retrieved for it.

    Attributes:
        question: its text.
        passages: best first.
        answers: accepted answers.
        right: passages whose spans count as right in training, when they hold an answer; none where nobody judged.
        marks: where answers were marked by hand: passage_id, and first character and the one after the last in the
            text that the reader sees. In a right passage without marks the accepted answers are looked for.
    """

    question: str
    passages: tuple[ReadingPassage, ...]
    answers: tuple[str, ...]
    right: frozenset[str]
    marks: tuple[tuple[str, int, int], ...] = ()


def retrieved_passages(
    queries: pd.DataFrame,
    run: pd.DataFrame,
    passages: pd.DataFrame,
    k: int,
    prior: Literal["cosine", "score"] = "cosine",
) -> list[list[ReadingPassage]]:
    """The first k passages of each question, as a reader reads them.

    Args:
        queries: query_id.
        run: query_id, passage_id, rank, and the column of `prior`.
        passages: passage_id, title, text.
        k: passages per question.
        prior: what the reader takes for its prior: the cosine of question and passage, or the score of the search.
    Returns:
        In the order of `queries`; a question for which nothing was found has no passages.
    """
    text_of = dict(zip(passages["passage_id"], passage_inputs(passages), strict=True))
    found: dict[str, list[ReadingPassage]] = {}
    for row in run[run["rank"] <= k].sort_values(["query_id", "rank"]).itertuples(index=False):
        found.setdefault(row.query_id, []).append(
            ReadingPassage(row.passage_id, text_of[row.passage_id], float(getattr(row, prior)))
        )
    return [found.get(query_id, []) for query_id in queries["query_id"]]


def accepted_answers(queries: pd.DataFrame, answers: pd.DataFrame) -> dict[str, list[str]]:
    """The accepted answers by query_id.

    Raises:
        ValueError: one of the queries has none.
    """
    accepted = dict(zip(answers["query_id"], answers["answers"], strict=True))
    if missing := sorted(set(queries["query_id"]) - set(accepted)):
        raise ValueError(f"{len(missing)} questions have no accepted answer, such as {missing[0]}.")
    return accepted


def right_passages(qrels: pd.DataFrame) -> "pd.Series[Any]":
    """The ids of the right passages of each query that has any, as frozen sets by query_id."""
    return qrels[qrels["grade"] > 0].groupby("query_id")["passage_id"].agg(frozenset)


def right_tokens(
    example: ReadingExample, pairs: Sequence[EncodedPair]
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(passage, token) of each right start and of each right end, answers in their order in each right passage.

    Where a passage has no marks, an answer stands at the first place at which whole tokens spell it (`os` is in
    `close`, but not as an answer), or else at the first.
    """
    starts, ends = [], []
    for row, (passage, pair) in enumerate(zip(example.passages, pairs, strict=True)):
        if passage.passage_id not in example.right:
            continue
        marked = [(begin, finish) for identity, begin, finish in example.marks if identity == passage.passage_id]
        if not marked:
            marked = [answer_place(passage.text, answer, pair) for answer in example.answers]
        for begin, finish in marked:
            start = next((t for t, o in enumerate(pair.offsets) if o is not None and o[0] <= begin < o[1]), None)
            end = next((t for t, o in enumerate(pair.offsets) if o is not None and o[0] < finish <= o[1]), None)
            if start is not None and end is not None:
                starts.append((row, start))
                ends.append((row, end))
    return starts, ends


def answer_place(text: str, answer: str, pair: EncodedPair) -> tuple[int, int]:
    """Where an answer begins and ends in a passage; (-1, -1): nowhere.

    As it is written, or else in any case and with any white space between its tokens, which is how a passage is found
    to hold it (`has_answer`); preferably where a token begins and one ends with it.
    """
    begins = {offset[0] for offset in pair.offsets if offset is not None}
    finishes = {offset[1] for offset in pair.offsets if offset is not None}
    first = -1, -1
    for pattern in answer_patterns(answer):
        for found in pattern.finditer(text):
            begin, finish = found.span(1)  # an empty match at each place: those that overlap are seen too
            if begin in begins and finish in finishes:
                return begin, finish
            first = (begin, finish) if first == (-1, -1) else first
        if first != (-1, -1):
            break
    return first


@lru_cache(maxsize=4096)  # asked for each passage of each step; `re` itself keeps 512
def answer_patterns(answer: str) -> list[re.Pattern[str]]:
    """What an answer is looked for with, in this order; a match is empty, its first group is the place."""
    tokens = re.findall(r"[^\W_]+|[^\w\s]|_", answer)
    if not tokens:
        return []
    spaced = r"\s*".join(map(re.escape, tokens))
    # In other letters it must stand by itself: "US" is not in "thus".
    return [
        re.compile(f"(?=({re.escape(answer)}))"),
        re.compile(rf"(?=((?<![^\W_]){spaced}(?![^\W_])))", re.IGNORECASE),
    ]
