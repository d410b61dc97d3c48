"""Questions as joint training takes them, out of the tables between the pipelines."""

import pandas as pd

from ragsmith.collect.questions import ANSWERS, DISTANT
from ragsmith.read.examples import accepted_answers, right_passages
from ragsmith.read.joint_settings import JointQuestion


def joint_questions(queries: pd.DataFrame, qrels: pd.DataFrame, answers: pd.DataFrame) -> list[JointQuestion]:
    """Join questions with their answers and with the passages that are known to answer them.

    Args:
        queries: query_id, text, origin (as in `ragsmith.collect.questions` where nobody judged the passages).
        qrels: query_id, passage_id, grade (right above 0); a question may have none.
        answers: query_id, answers.
    Returns:
        In the order of `queries`.
    Raises:
        ValueError: a question has no accepted answer.
    """
    accepted, right = accepted_answers(queries, answers), right_passages(qrels)
    return [
        JointQuestion(
            query_id,
            text,
            tuple(accepted[query_id]),
            right.get(query_id, frozenset()),
            origin not in {ANSWERS, DISTANT},
        )
        for query_id, text, origin in zip(queries["query_id"], queries["text"], queries["origin"], strict=True)
    ]
