"""Questions as a reader is trained on them, out of the tables between the pipelines."""

import pandas as pd

from ragsmith.collect.questions import ANSWERS, DISTANT
from ragsmith.read.examples import accepted_answers, right_passages
from ragsmith.read.rag_settings import RagQuestion


def rag_questions(queries: pd.DataFrame, qrels: pd.DataFrame, answers: pd.DataFrame) -> list[RagQuestion]:
    """Join questions with their answers and with the passages that are known to answer them.

    Args:
        queries: query_id, text, origin (as in `ragsmith.collect.questions` where nobody judged the passages), and
            where they were made from passages: passage_id (or empty), cut_start, cut_end (characters of its text).
        qrels: query_id, passage_id, grade (right above 0); a question may have none.
        answers: query_id, answers, and marks where there are any: a list of passage_id, start and end, of answers that
            were marked by hand, by their characters in the passage's own text.
    Returns:
        In the order of `queries`.
    Raises:
        ValueError: a question has no accepted answer.
    """
    accepted, right = accepted_answers(queries, answers), right_passages(qrels)
    marks = dict(zip(answers["query_id"], answers["marks"], strict=True)) if "marks" in answers else {}
    sources: list[tuple[str, int, int]] = [("", 0, 0)] * len(queries)
    if {"passage_id", "cut_start", "cut_end"} <= set(queries):
        cuts = (queries[name].fillna(0).astype(int).tolist() for name in ("cut_start", "cut_end"))
        sources = list(zip(queries["passage_id"].fillna("").tolist(), *cuts, strict=True))
    asked = zip(queries["query_id"], queries["text"], queries["origin"], sources, strict=True)
    return [
        RagQuestion(
            query_id,
            text,
            tuple(accepted[query_id]),
            right.get(query_id, frozenset()),
            origin not in {ANSWERS, DISTANT},
            tuple((str(of), int(start), int(end)) for of, start, end in marks.get(query_id, ())),
            source,
        )
        for query_id, text, origin, source in asked
    ]
