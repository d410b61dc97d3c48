"""Questions with what was retrieved for them, as the reader trains on and is judged by."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from ragsmith.read.reading import ReadingPassage
from ragsmith.read.training import ReadingExample
from ragsmith.retrieve.has_answer import found_by, has_answer
from ragsmith.retrieve.passage_text import passage_inputs


def reading_examples(
    queries: pd.DataFrame,
    run: pd.DataFrame,
    passages: pd.DataFrame,
    qrels: pd.DataFrame,
    answers: pd.DataFrame,
    k: int,
    prior: Literal["cosine", "score"] = "cosine",
) -> list[ReadingExample]:
    """The first k passages of each question, with its accepted answers.

    Args:
        queries: query_id, text.
        run: query_id, passage_id, rank, and the column of `prior`.
        passages: passage_id, title, text.
        qrels: query_id, passage_id, grade.
        answers: query_id, answers, and marks where there are any: a list of passage_id, start and end, of answers that
            were marked by hand, by their characters in the passage's own text.
        k: passages per question.
        prior: what the reader takes for its prior: the cosine of question and passage, or the score of the search.
    Returns:
        In the order of `queries`; a question for which nothing was found has no passages.
    Raises:
        ValueError: a question has no accepted answer.
    """
    text_of = dict(zip(passages["passage_id"], passage_inputs(passages), strict=True))
    accepted, right = accepted_answers(queries, answers), right_passages(qrels)
    found: dict[str, list[ReadingPassage]] = {}
    for row in run[run["rank"] <= k].sort_values(["query_id", "rank"]).itertuples(index=False):
        found.setdefault(row.query_id, []).append(
            ReadingPassage(row.passage_id, text_of[row.passage_id], float(getattr(row, prior)))
        )
    # A title above the text moves it.
    moved = {
        passage_id: len(text_of[passage_id]) - len(text)
        for passage_id, text in zip(passages["passage_id"], passages["text"], strict=True)
    }
    marked: dict[str, tuple[tuple[str, int, int], ...]] = {}
    if "marks" in answers:
        for query_id, marks in zip(answers["query_id"], answers["marks"], strict=True):
            marked[query_id] = tuple((of, start + moved[of], end + moved[of]) for of, start, end in marks)
    return [
        ReadingExample(
            question=query.text,
            passages=tuple(found.get(query.query_id, [])),
            answers=tuple(accepted[query.query_id]),
            right=right.get(query.query_id, frozenset()),
            marks=marked.get(query.query_id, ()),
        )
        for query in queries.itertuples(index=False)
    ]


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


def with_right_passage(
    examples: Sequence[ReadingExample],
    sources: Sequence[tuple[str, int, int]],
    passages: pd.DataFrame,
    cut_probability: float,
    seed: int,
    unjudged: Collection[int] = (),
) -> list[ReadingExample]:
    """Training examples of which each holds its right passage, at a place that tells nothing.

    Where the right passage was not retrieved it takes the last place. The stretch that the question was taken from is
    left out of it part of the time, or the reader would learn to look for equal words. Passages are shuffled. Where
    nobody judged the passages, each that holds an accepted answer counts as right (distant supervision, Chen et al.,
    ACL 2017): the others would else be taught to be wrong, though they may well answer.

    Args:
        examples: from `reading_examples`.
        sources: per example, the passage that it was made from (empty: none is known) and the stretch of its text.
        passages: passage_id, title, text.
        cut_probability: how often the stretch is left out.
        seed: of places and cuts.
        unjudged: places of the examples whose passages nobody judged.
    """
    generator = np.random.default_rng(seed)
    rows = passages.set_index("passage_id")
    changed = []
    for place, (example, (passage_id, start, end)) in enumerate(zip(examples, sources, strict=True)):
        if not passage_id:
            changed.append(shuffled(example, example.passages, example.right, place in unjudged, generator))
            continue
        text, title = rows.at[passage_id, "text"], rows.at[passage_id, "title"]
        cut = generator.random() < cut_probability and 0 < start < end
        kept = f"{text[:start].rstrip()}\n{text[end:].lstrip()}".strip() if cut else text
        source_text = passage_inputs(pd.DataFrame({"title": [title], "text": [kept]}))[0]
        scores = [passage.score for passage in example.passages if passage.passage_id == passage_id]
        others = [passage for passage in example.passages if passage.passage_id != passage_id]
        if not scores:
            others = others[: max(0, len(example.passages) - 1)]
            scores = [others[-1].score if others else 0.0]
        shown = [*others, ReadingPassage(passage_id, source_text, scores[0])]
        # The characters behind a cut have moved: there the answers are looked for.
        marked = replace(example, marks=tuple(mark for mark in example.marks if not cut or mark[0] != passage_id))
        changed.append(shuffled(marked, shown, example.right | {passage_id}, place in unjudged, generator))
    return changed


def shuffled(
    example: ReadingExample,
    shown: Sequence[ReadingPassage],
    right: frozenset[str],
    unjudged: bool,
    generator: np.random.Generator,
) -> ReadingExample:
    """The example with these passages in any order; where nobody judged them, those that hold an answer are right."""
    order = generator.permutation(len(shown))
    held = (
        passage.passage_id for passage in shown if unjudged and has_answer(passage.text, found_by(example.answers))
    )
    found = frozenset(held) if unjudged else right
    return replace(example, passages=tuple(shown[place] for place in order), right=found)


def without_unjudged(examples: Sequence[ReadingExample], k: int) -> list[ReadingExample]:
    """Training examples whose other passages are wrong as far as one can see, at most k.

    A passage that nobody judged and that holds an accepted answer may well answer the question: to train against it
    would teach what is false.

    Args:
        examples: from `reading_examples`, with more passages than are wanted.
        k: passages that are kept, the first ones.
    """
    kept = []
    for example in examples:
        accepted = found_by(example.answers)
        clear = [
            passage
            for passage in example.passages
            if passage.passage_id in example.right or not has_answer(passage.text, accepted)
        ]
        kept.append(replace(example, passages=tuple(clear[:k])))
    return kept
