"""Which questions are refused, left out or trained on, and what is said of them."""

import logging
from dataclasses import replace

import pandas as pd
import pytest

from ragsmith.read.extractive import ReaderSettings
from ragsmith.read.instructive import check_questions, instructive, without_span
from ragsmith.read.rag_settings import RagQuestion, RagSettings
from ragsmith.read.rag_task import RagTask

SETTINGS = RagSettings(batch_size=4, passages=3, contrastive_weight=1.0, retriever_rate=1.0)


def test_all_faults_of_questions_and_knowledge_base_are_said_at_once(town_base):
    asked = [
        RagQuestion("a", "?", ("red",), frozenset({"nowhere"})),
        RagQuestion("b", "?", (" ",)),
        RagQuestion("b", "?", ()),
    ]
    passages = pd.concat([town_base.passages, town_base.passages[:1]])
    with pytest.raises(ValueError) as raised:
        check_questions(asked, [], passages)
    for said in (
        "there is no dev question with an answer",
        "2 training questions have no answer, such as b",
        "1 training questions name passages that are not there, such as a",
        "training questions stand twice",
        "1 ids stand twice, such as 'p1'",
    ):
        assert said in str(raised.value)
    with pytest.raises(ValueError, match="there is no training question"):
        check_questions([], asked[:1], town_base.passages)


@pytest.mark.parametrize(
    ("settings", "empty", "left_out"),
    [
        # Where passages are found anew, the answer may stand in any; of those that stand in none, a guess still
        # teaches the retriever by contrast.
        ({}, 2, 1),
        ({"contrastive_weight": 0.0}, 2, 2),
        ({"encoders": "questions"}, 2, 1),
        ({"train_reader": False, "contrastive_weight": 0.0}, 2, 2),
        # Where they are not, it must stand in what is found now: q3's does, and q4's does not.
        ({"encoders": "none", "objective": "none", "search": "bm25", "passages": 1}, 3, 3),
        ({"search": "bm25", "passages": 1}, 3, 2),
    ],
)
def test_unjudged_questions_whose_answer_stands_nowhere_are_counted_warned_of_and_left_out_in_all_modes(
    live_index, reader, town_questions, caplog, settings, empty, left_out
):
    asked = [replace(one, right=frozenset(), judged=False) for one in town_questions]
    asked[0] = replace(asked[0], answers=("transparent",))
    asked[1] = replace(town_questions[1], judged=False, answers=("no",))  # a guess, and nothing to be found by
    asked[3] = replace(asked[3], text="What colour is the car in Bonn?")  # of Essen, which BM25 does not find
    with caplog.at_level(logging.WARNING):
        kept, lost, unanswered = instructive(reader, asked, live_index(), replace(SETTINGS, **settings))
    assert (len(kept), lost, unanswered) == (12 - left_out, 0, empty)
    gone = {question.query_id for question in asked} - {question.query_id for question in kept}
    assert gone <= {"q1", "q2", "q4"} and "q1" in gone
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"{empty} of 12 training questions teach the reader nothing") and "(q1, q2" in line
    assert ("none that is found holds" in line) == (empty == 3)


@pytest.mark.parametrize("kind", ["extractive", "rag_token"])
def test_retriever_alone_is_not_trained_on_questions_without_a_right_passage(
    live_index, reader, writer, town_questions, caplog, kind
):
    asked = [replace(town_questions[0], right=frozenset()), *town_questions[1:]]
    settings = replace(SETTINGS, train_reader=False, objective="none")
    chosen = reader if kind == "extractive" else writer("t5", kind)
    with caplog.at_level(logging.WARNING):
        kept, *_ = instructive(chosen, asked, live_index(), settings)
    assert kept == town_questions[1:]
    assert "1 of 12 training questions are left out: no right passage of theirs is known" in caplog.text
    with pytest.raises(ValueError, match=r"no training question that could teach the retriever: none has a right"):
        instructive(chosen, asked[:1], live_index("again"), settings)


def test_reader_that_writes_learns_from_answers_that_stand_nowhere(live_index, writer, town_questions, caplog):
    asked = [replace(one, right=frozenset(), judged=False, answers=("transparent",)) for one in town_questions]
    assert instructive(writer("t5", "rag_token"), asked, live_index(), SETTINGS) == (asked, 0, 0)
    assert not caplog.records


def test_answer_that_was_marked_by_hand_is_a_span_however_it_is_spelled(live_index, reader, town_questions):
    spelled = replace(town_questions[0], answers=("scarlet",))
    live = live_index()
    assert without_span(reader, [spelled], live, SETTINGS) == [spelled]
    assert without_span(reader, [replace(spelled, marks=(("p1", 18, 21),))], live, SETTINGS) == []


# Of the first passage; 22 tokens of question and passage end after "red.", and a span may have six.
ANSWERS = {
    "red": True,
    "RED": True,
    "car\tin": True,  # as it is found, in other letters and spacing
    "The car in Ulm is": True,  # six: two of them are Ulm's
    "The car in Ulm is red": False,  # too long
    "old": False,  # not read
    "crimson": False,
}


@pytest.mark.parametrize("judged", [True, False])
@pytest.mark.parametrize("encoders", ["none", "both"])
def test_question_is_left_out_just_where_training_can_mark_none_of_its_answers(
    live_index, reader, town_questions, caplog, judged, encoders
):
    right = frozenset({"p1"}) if judged else frozenset()
    asked = [
        replace(town_questions[0], query_id=answer, answers=(answer,), right=right, judged=judged)
        for answer in ANSWERS
    ]
    settings = replace(
        SETTINGS, encoders=encoders, objective="none", passages=12, batch_size=1,
        contrastive_weight=0.0 if encoders == "none" else 1.0,
    )  # fmt: skip
    reader, live = reader.with_settings(ReaderSettings(22, 6)), live_index()
    with caplog.at_level(logging.WARNING):
        kept, lost, empty = instructive(reader, asked, live, settings)
    seen = {}
    for question in asked:
        task = RagTask(reader, live, [question], [question], settings, "base")
        seen[question.query_id] = bool(task.loss(0, 0)[1]["readable"])
    assert seen == ANSWERS
    gone = [answer for answer, marked in ANSWERS.items() if not marked]
    assert (lost, empty) == ((len(gone), 0) if judged else (0, len(gone)))
    if encoders == "none" or not judged:
        assert [question.query_id for question in kept] == [a for a, marked in ANSWERS.items() if marked]
    (line,) = [record.getMessage() for record in caplog.records]
    assert f"{len(gone)} of 7 training questions teach the reader nothing" in line
    assert "at most 6 tokens (max_answer_tokens) within the 22 that are read of question and passage (max_tokens)" in (
        line
    )


@pytest.mark.parametrize(
    ("answer", "shares"),
    [("red", {0.0: True, 0.5: True, 1.0: False}), ("old", {0.0: False, 0.5: True, 1.0: True})],
)
def test_answer_that_stands_in_the_stretch_that_is_left_out_or_is_read_without_it_counts_as_often_as_training_sees_it(
    live_index, reader, town_questions, answer, shares
):
    stretch = ("p1", 1, len("The car in Ulm is red."))
    asked = [replace(town_questions[0], answers=(answer,), source=stretch)]
    reader, live = reader.with_settings(ReaderSettings(22, 6)), live_index()
    for share, marked in shares.items():
        lost = without_span(reader, asked, live, replace(SETTINGS, cut_probability=share))
        assert lost == ([] if marked else asked)
