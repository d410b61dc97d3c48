"""Tell in which slice of each dimension a question lies, such as "how" questions or answers of one token."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from ragsmith.evaluate._checks import listed, repeated, require_columns, some
from ragsmith.evaluate.question_kinds import OTHER, UNSPACED, answer_type, content_words, question_word
from ragsmith.read.same_answer import normalise
from ragsmith.retrieve.bm25 import words
from ragsmith.retrieve.passage_text import passage_inputs

# The values of each dimension, in the order in which they are told. `source` has the sources' own names.
DIMENSIONS: dict[str, tuple[str, ...]] = {
    "question_word": ("what", "which", "how", "how many", "where", "when", "who", "why", "can/is/does", OTHER),
    "answer_type": ("number", "date", "identifier or code", "one word", "phrase", "sentence", OTHER),
    "answer_length": ("1 token", "2–3 tokens", "4–10 tokens", "over 10 tokens", OTHER),
    "source": (),
    "overlap": ("0 %", "1–33 %", "34–66 %", "67–99 %", "100 %", OTHER),
    "rarest_word": ("in no passage", "in 1–2", "in 3–10", "in 11–100", "in over 100", OTHER),
}

_MOST_CHARACTERS = 10_000  # of a question or an answer: what stands behind does not change its kind


def slice_columns(
    queries: pd.DataFrame,
    answers: pd.DataFrame,
    qrels: pd.DataFrame,
    passages: pd.DataFrame,
    documents: pd.DataFrame,
) -> pd.DataFrame:
    """The slice of each query in each dimension.

    question_word: what begins the question or, failing that, one of its clauses; a preposition may stand before it.
    answer_type: by the shape of the first accepted answer. answer_length: its tokens as exact match counts them.
    source: the source of the document that the first right passage is from. overlap: share of the question's content
    words that its right passage holds (of several, the one that holds most). rarest_word: in how many passages that
    content word stands which stands in fewest. Words are split as sparse search splits them; passages are taken as
    they are read, with their title.

    What cannot be told is "other": no question, no answer, no right passage that is known, a language other than
    English for the question word, a script without spaces for whatever counts words.

    Args:
        queries: query_id, text.
        answers: query_id, answers (list of str); of several rows for a query, the first that holds a text counts.
        qrels: query_id, passage_id, grade (0 is wrong, above is right).
        passages: passage_id, document_id, title, text.
        documents: document_id, source.
    Returns:
        query_id and, for each of DIMENSIONS, slice_<dimension> (str); one row per query, in their order.
    Raises:
        ValueError: a column is missing, or an id is there twice in queries, passages or documents.
    """
    _check_tables(queries, answers, qrels, passages, documents)
    questions = [_text(text) for text in queries["text"]]
    first_answers = _first_answers(answers)
    expected = [first_answers.get(query_id, "") for query_id in queries["query_id"]]
    right = _right_passages(qrels, queries["query_id"])
    content = [content_words(question) for question in questions]
    shown = passages.fillna({"title": "", "text": ""})
    held = _words_of({passage_id for found in right.values() for passage_id in found}, shown)
    overlaps = [
        _overlap(asked, [held[passage_id] for passage_id in right[query_id] if passage_id in held])
        for query_id, asked in zip(queries["query_id"], content, strict=True)
    ]
    frequencies = _document_frequencies(set().union(*content), shown)
    sources = passages[["passage_id", "document_id"]].merge(documents[["document_id", "source"]], on="document_id")
    source_of = dict(zip(sources["passage_id"], sources["source"], strict=True))
    found_in = [
        next((_text(source_of[passage_id]) for passage_id in right[query_id] if passage_id in source_of), OTHER)
        for query_id in queries["query_id"]
    ]
    return pd.DataFrame(
        {
            "query_id": queries["query_id"].to_numpy(),
            "slice_question_word": [question_word(question) for question in questions],
            "slice_answer_type": [answer_type(a, question) for a, question in zip(expected, questions, strict=True)],
            "slice_answer_length": [_length_bin(answer) for answer in expected],
            "slice_source": [source or OTHER for source in found_in],
            "slice_overlap": [_overlap_bin(overlap) for overlap in overlaps],
            "slice_rarest_word": [
                _frequency_bin(min((frequencies[word] for word in asked), default=None)) for asked in content
            ],
        }
    )


def _check_tables(
    queries: pd.DataFrame, answers: pd.DataFrame, qrels: pd.DataFrame, passages: pd.DataFrame, documents: pd.DataFrame
) -> None:
    require_columns(queries, "queries", ["query_id", "text"])
    require_columns(answers, "answers", ["query_id", "answers"])
    require_columns(qrels, "qrels", ["query_id", "passage_id", "grade"])
    require_columns(passages, "passages", ["passage_id", "document_id", "title", "text"])
    require_columns(documents, "documents", ["document_id", "source"])
    for table, name, key in (
        (queries, "queries", "query_id"), (passages, "passages", "passage_id"), (documents, "documents", "document_id")
    ):  # fmt: skip
        if doubles := repeated(table, [key]):
            raise ValueError(f"Table {name} repeats {key} {some(double[0] for double in doubles)}; keep one row.")


def _text(value: Any) -> str:
    """A text cut to a bounded length; empty for what is missing."""
    return value[:_MOST_CHARACTERS] if isinstance(value, str) else ""


def _first_answers(answers: pd.DataFrame) -> dict[Any, str]:
    """The first accepted answer of each query that says something."""
    found: dict[Any, str] = {}
    for query_id, texts in zip(answers["query_id"], answers["answers"], strict=True):
        if answer := next((_text(text) for text in listed(texts) if _text(text).strip()), ""):
            found.setdefault(query_id, answer)
    return found


def _right_passages(qrels: pd.DataFrame, query_ids: pd.Series) -> dict[Any, list[Any]]:
    """Right passages of each query, the best grade first and equal ones as they stand in the qrels."""
    right: dict[Any, list[Any]] = {query_id: [] for query_id in query_ids}
    judged = qrels[(qrels["grade"] > 0) & qrels["query_id"].isin(query_ids)]
    judged = judged.sort_values("grade", ascending=False, kind="stable")
    for query_id, passage_id in zip(judged["query_id"], judged["passage_id"], strict=True):
        right[query_id].append(passage_id)
    return right


def _words_of(passage_ids: set[Any], passages: pd.DataFrame) -> dict[Any, set[str]]:
    wanted = passages[passages["passage_id"].isin(passage_ids)]
    return {
        passage_id: set(words(text))
        for passage_id, text in zip(wanted["passage_id"], passage_inputs(wanted), strict=True)
    }


def _overlap(asked: set[str], held: list[set[str]]) -> float | None:
    """Share of the words asked that the passage holds which holds most; None without words or passages."""
    return max((len(asked & passage) / len(asked) for passage in held), default=None) if asked else None


def _document_frequencies(wanted: Iterable[str], passages: pd.DataFrame) -> dict[str, int]:
    """In how many passages each word stands."""
    counts = dict.fromkeys(wanted, 0)
    for text in passage_inputs(passages):
        for word in counts.keys() & words(text):
            counts[word] += 1
    return counts


def _length_bin(answer: str) -> str:
    if not answer.strip() or UNSPACED.search(answer):
        return OTHER
    count = len(normalise(answer).split())
    return (
        "1 token" if count <= 1 else "2–3 tokens" if count <= 3 else "4–10 tokens" if count <= 10 else "over 10 tokens"
    )


def _overlap_bin(share: float | None) -> str:
    if share is None:
        return OTHER
    if share in (0, 1):
        return f"{100 * share:.0f} %"
    return "1–33 %" if share <= 1 / 3 else "34–66 %" if share <= 2 / 3 else "67–99 %"


def _frequency_bin(count: int | None) -> str:
    if count is None:
        return OTHER
    bounds = ((0, "in no passage"), (2, "in 1–2"), (10, "in 3–10"), (100, "in 11–100"))
    return next((name for bound, name in bounds if count <= bound), "in over 100")
