"""What a reader is shown: right passages, none that may be right as well, and the source without its question."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ragsmith.read.live_index import LiveIndex, RefreshSettings
from ragsmith.read.rag_settings import RagQuestion
from ragsmith.read.shown import reading_example, surely_judged, with_right_passage
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.index import DenseIndex

ROWS = [
    ("p0", "systems", "An OS. The os starts."),
    ("p1", "doors", "Doors that close."),
    ("p2", "Linux", "Linux is the os that was asked for."),
    ("p3", "json", "Middle of a section."),
]
ASKED = RagQuestion("q", "Which?", ("os", "a+b"), frozenset({"p2"}))


@pytest.fixture
def index(tiny_model, machine, tmp_path) -> LiveIndex:
    passages = pd.DataFrame(ROWS, columns=["passage_id", "title", "text"])
    start = DenseIndex(passages["passage_id"].tolist(), np.eye(4, 64, dtype=np.float32))
    return LiveIndex(Encoder.load(tiny_model, machine), start, passages, RefreshSettings(), tmp_path)


def test_passage_that_holds_an_answer_and_was_not_judged_is_left_out(index):
    assert surely_judged(ASKED, [3, 0, 1, 2], index) == [3, 1, 2]  # "close" does not hold it


@pytest.mark.parametrize("changes", [{"judged": False}, {"right": frozenset()}])
def test_where_nobody_judged_all_passages_stay(index, changes):
    assert surely_judged(replace(ASKED, **changes), [3, 0, 1, 2], index) == [3, 0, 1, 2]


def test_right_passage_takes_the_last_place_where_none_was_found(index):
    assert with_right_passage(ASKED, [0, 1, 3], index, 2) == [0, 2]
    assert with_right_passage(ASKED, [0, 2, 3], index, 2) == [0, 2]  # found: it stays where it is
    assert with_right_passage(ASKED, [1], index, 2) == [1, 2]
    assert with_right_passage(ASKED, [1], index, 1) == [2]
    assert with_right_passage(replace(ASKED, right=frozenset()), [0, 1, 3], index, 2) == [0, 1]


def test_of_several_right_passages_the_one_that_the_question_was_made_from_is_put_in(index):
    several = replace(ASKED, right=frozenset({"p2", "p3"}))
    assert with_right_passage(several, [0, 1], index, 2) == [0, 2]
    assert with_right_passage(replace(several, source=("p3", 0, 0)), [0, 1], index, 2) == [0, 3]
    assert with_right_passage(replace(several, source=("p1", 0, 0)), [0], index, 2) == [0, 2]  # it is not right


def test_example_has_texts_as_the_retriever_saw_them_scores_answers_and_what_is_right(index):
    one = reading_example(ASKED, [(3, 0.5), (2, 0.25)], index)
    assert [(p.passage_id, p.text, p.score) for p in one.passages] == [
        ("p3", "json\nMiddle of a section.", 0.5),
        ("p2", "Linux is the os that was asked for.", 0.25),
    ]
    assert (one.question, one.answers, one.right, one.marks) == ("Which?", ("os", "a+b"), frozenset({"p2"}), ())
    assert reading_example(replace(ASKED, judged=False), [(3, 0.5)], index).right == frozenset()


def test_marks_move_with_the_title_above_the_text_and_those_of_other_passages_are_left_out(index):
    marked = replace(ASKED, marks=(("p3", 12, 19), ("p2", 13, 15), ("p0", 0, 2)))
    one = reading_example(marked, [(3, 0.0), (2, 0.0)], index)
    text_of = {passage.passage_id: passage.text for passage in one.passages}
    assert [(of, text_of[of][start:end]) for of, start, end in one.marks] == [("p3", "section"), ("p2", "os")]


@pytest.mark.parametrize(
    ("source", "left"),
    [(("p3", 7, 12), "json\nMiddle\nsection."), (("p2", 6, 12), "Linux\nos that was asked for.")],
)
def test_stretch_that_the_question_was_taken_from_is_left_out_and_the_marks_of_its_passage(index, source, left):
    asked = replace(ASKED, source=source, marks=(("p2", 13, 15), ("p3", 12, 19)))
    rows = [(2, 0.0), (3, 0.0)]
    one, whole = reading_example(asked, rows, index, cut=True), reading_example(asked, rows, index)
    text_of = {passage.passage_id: passage.text for passage in one.passages}
    assert text_of[source[0]] == left and [of for of, *_ in one.marks] == [
        of for of in ("p2", "p3") if of != source[0]
    ]
    other = ({"p2", "p3"} - {source[0]}).pop()
    assert text_of[other] == {passage.passage_id: passage.text for passage in whole.passages}[other]


@pytest.mark.parametrize("source", [("", 0, 0), ("p2", 0, 5), ("p2", 5, 5), ("p0", 3, 6)])
def test_nothing_is_left_out_where_nothing_would_be_left_or_the_source_is_not_shown(index, source):
    asked = replace(ASKED, source=source)
    assert reading_example(asked, [(2, 0.0)], index, cut=True) == reading_example(asked, [(2, 0.0)], index)
