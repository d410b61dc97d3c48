"""Questions as joint training takes them, out of the tables between the pipelines."""

import pandas as pd

from ragsmith.collect.questions import ANSWERS, DISTANT
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
    accepted = dict(zip(answers["query_id"], answers["answers"], strict=True))
    if missing := sorted(set(queries["query_id"]) - set(accepted)):
        raise ValueError(f"{len(missing)} questions have no accepted answer, such as {missing[0]}.")
    right = qrels[qrels["grade"] > 0].groupby("query_id")["passage_id"].agg(frozenset)
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
