"""SQuAD's JSON of both versions is read as it is, and every fault is told with its place."""

import json
from pathlib import Path
from typing import Any

import pytest

from ragsmith.collect.exchange.record_set import Answer
from ragsmith.collect.exchange.squad import read_squad

NORMANS = "The Normans came from  Normandy.\r\nThey spoke Norman. 🏰 Rollo led them."


def qa(identity: Any = "q1", question: Any = "Who led?", **more: Any) -> dict[str, Any]:
    return {"id": identity, "question": question, **more}


def answer(text: str, start: int | None = None) -> dict[str, Any]:
    return {"text": text, "answer_start": NORMANS.index(text) if start is None else start}


def write(folder: Path, *paragraphs: Any, title: Any = "Norman_people", name: str = "dev-v2.0.json") -> Path:
    path = folder / name
    path.write_text(json.dumps({"version": "v2.0", "data": [{"title": title, "paragraphs": list(paragraphs)}]}))
    return path


def test_paragraphs_are_verbatim_passages_and_answers_stand_where_they_are_said_to(tmp_path: Path) -> None:
    asked = [qa(answers=[answer("Rollo"), answer("Rollo"), answer("Rollo led")])]
    records = read_squad(write(tmp_path, {"context": NORMANS, "qas": asked}, {"context": "Alone.", "qas": []}))
    (document,) = records.documents
    assert document.title == "Norman people" and document.passages == (NORMANS, "Alone.")
    (question,) = records.questions
    (positive,) = question.positive_ids
    start = NORMANS.index("Rollo")
    assert question.answers == (Answer("Rollo", positive, start), Answer("Rollo led", positive, start))
    assert records.texts()[positive] == NORMANS and question.negative_ids == ()
    assert (question.question_id, question.split, question.origin) == ("dev-v2.0:q1", "dev", "dev-v2.0")


def test_an_impossible_question_has_no_positive_and_its_paragraph_is_a_given_negative(tmp_path: Path) -> None:
    asked = [qa(is_impossible=True, answers=[], plausible_answers=[answer("Rollo")]), qa("q2", answers=[])]
    impossible, unanswered = read_squad(write(tmp_path, {"context": NORMANS, "qas": asked})).questions
    assert impossible.positive_ids == () and impossible.answers == ()
    assert impossible.negative_ids == unanswered.positive_ids and unanswered.negative_ids == ()


def test_articles_of_one_title_and_identical_paragraphs_are_one(tmp_path: Path) -> None:
    paragraphs = [{"context": "Same.", "qas": [qa(1)]}, {"context": "Same.", "qas": [qa(2)]}, {"context": "Other."}]
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"data": [{"title": "T", "paragraphs": [part]} for part in paragraphs]}))
    records = read_squad(path)
    assert [document.passages for document in records.documents] == [("Same.", "Other.")]
    assert records.questions[0].positive_ids == records.questions[1].positive_ids


def test_articles_without_title_stay_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"data": [{"paragraphs": [{"context": text}]} for text in ("One.", "Two.")]}))
    assert [document.passages for document in read_squad(path).documents] == [("One.",), ("Two.",)]


def test_all_faults_are_listed_with_their_places(tmp_path: Path) -> None:
    asked = [
        qa(answers=[answer("Rollo", 3)]),
        qa("q2", " "),
        qa(None),
        qa("q4", answers="Rollo"),
        qa("q5", answers=[{"text": "Rollo"}]),
        qa("q6", is_impossible="no"),
        "no object",
        qa("q8"),
        qa("q8"),
        qa("q9", answers=[answer("Rollo", -7)]),
        qa("q10", "half a pair \ud800"),
    ]
    path = write(tmp_path, {"context": NORMANS, "qas": asked}, {"context": 3}, {"context": "x", "qas": {}}, "none")
    with pytest.raises(ValueError, match="has 13 faults") as caught:
        read_squad(path)
    for place, part in [
        ("qas[0]", "'Rollo' is not at character 3"),
        ("qas[1]", "question is ' '"),
        ("qas[2]", "needs an id"),
        ("qas[3]", "answers is 'Rollo', not a list"),
        ("qas[4]", "'answer_start'"),
        ("qas[5]", "is_impossible is 'no'"),
        ("qas[6]", "not an object"),
        ("qas[8]", "that of data[0].paragraphs[0].qas[7]"),
        ("qas[9]", "not at character -7"),
        ("qas[10]", "not a text"),
    ]:
        assert f"dev-v2.0.json:data[0].paragraphs[0].{place}: " in str(caught.value) and part in str(caught.value)
    assert "paragraphs[1]: context is 3" in str(caught.value) and "paragraphs[2]: qas is {}" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"data": [\n{"title": }]}', r"a\.json:2: not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"data": ' + "9" * 5000 + "}", "not JSON"),
        ("[]", "under 'data'"),
        ('{"data": []}', "no paragraph"),
        ('{"data": [3]}', "needs a list under 'paragraphs'"),
        ('{"data": [{"title": 5, "paragraphs": []}]}', "title is 5"),
    ],
)
def test_a_file_that_is_no_squad_is_refused_by_name(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_squad(tmp_path / "a.json")
    assert "a.json" in str(caught.value)
