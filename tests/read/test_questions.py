import pandas as pd
import pytest

from ragsmith.read.questions import rag_questions
from ragsmith.read.rag_settings import RagQuestion

QUERIES = pd.DataFrame({"query_id": ["b", "a"], "text": ["B?", "A?"], "origin": ["gold", "distant"]})
QRELS = pd.DataFrame(
    [("a", "p1", 1), ("a", "p2", 2), ("a", "p3", 0), ("c", "p4", 1)], columns=["query_id", "passage_id", "grade"]
)
ANSWERS = pd.DataFrame({"query_id": ["a", "b", "c"], "answers": [["x", "y"], ["z"], ["w"]]})


def test_questions_come_in_their_order_with_all_answers_and_the_passages_graded_above_0():
    assert rag_questions(QUERIES, QRELS, ANSWERS) == [
        RagQuestion("b", "B?", ("z",), frozenset()),
        RagQuestion("a", "A?", ("x", "y"), frozenset({"p1", "p2"}), judged=False),
    ]


def test_questions_without_answers_are_counted_and_named():
    with pytest.raises(ValueError, match="2 questions have no accepted answer, such as a"):
        rag_questions(QUERIES, QRELS, ANSWERS[2:])


def test_marks_and_the_stretch_that_a_question_was_made_from_come_along():
    made = QUERIES.assign(passage_id=["p1", ""], cut_start=[3, 0], cut_end=[9, 0])
    marked = ANSWERS.assign(marks=[[], [["p1", 4, 5]], []])
    first, second = rag_questions(made, QRELS, marked)
    assert (first.source, first.marks) == (("p1", 3, 9), (("p1", 4, 5),))
    assert (second.source, second.marks) == (("", 0, 0), ())


def test_columns_that_say_nothing_are_no_marks_and_no_stretch():
    gaps = QUERIES.assign(passage_id=["p1", None], cut_start=[3, None], cut_end=[9, None])
    assert [question.source for question in rag_questions(gaps, QRELS, ANSWERS)] == [("p1", 3, 9), ("", 0, 0)]
    without = QUERIES.assign(passage_id=["p1", "p2"])
    assert [question.source for question in rag_questions(without, QRELS, ANSWERS)] == [("", 0, 0)] * 2
