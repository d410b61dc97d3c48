"""Questions with answers alone get the best passage that holds one; those of test never do."""

import random

import pandas as pd

from ragsmith.retrieve.bm25 import BM25Index
from ragsmith.retrieve.distant_supervision import supervise
from ragsmith.retrieve.has_answer import has_answer
from ragsmith.retrieve.passage_text import passage_inputs

PASSAGES = pd.DataFrame(
    [
        ("p1", "d1", "Moses", "Who was the brother of Moses? Moses knew who."),
        ("p2", "d2", "Aaron", "The brother of Moses was a prophet."),
        ("p3", "d3", "Prophets", "A prophet speaks for others, and he has a brother."),
        ("p4", "d4", "Rivers", "The Nile is long."),
    ],
    columns=["passage_id", "document_id", "title", "text"],
)
COLUMNS = ["text", "passage_ids", "answers", "document_ids", "split", "supervision"]
NONE_BY_HAND = pd.DataFrame({"document_ids": pd.Series([], dtype=object)})
WHO = "Who was the brother of Moses?"


def alone(split: str, text: str = WHO, answers: tuple[str, ...] = ("a prophet",)) -> list[object]:
    return [text, [], list(answers), [], split, "answers"]


def judged(split: str, passage_id: str, document_id: str) -> list[object]:
    return ["Judged?", [passage_id], ["x"], [document_id], split, "judged"]


def supervised(*asked: list[object], by_hand: pd.DataFrame = NONE_BY_HAND, depth: int = 100):
    table, missed = supervise(pd.DataFrame(list(asked), columns=COLUMNS), by_hand, PASSAGES, depth)
    return table[["passage_ids", "document_ids", "supervision"]].to_numpy().tolist(), missed


def test_the_best_passage_counts_that_holds_the_answer_and_not_the_best_of_all() -> None:
    found = BM25Index(PASSAGES["passage_id"].tolist(), passage_inputs(PASSAGES)).run(["q"], [WHO], 4)
    assert found["passage_id"].tolist()[:2] == ["p1", "p2"]
    assert supervised(alone("train")) == ([[["p2"], ["d2"], "distant"]], 0)
    assert supervised(alone("train"), depth=1) == ([[[], [], "answers"]], 1)


def test_no_test_question_is_supervised_and_dev_only_where_nobody_judged_any() -> None:
    rows, missed = supervised(alone("train"), alone("dev"), alone("test"))
    # A guess does not make a training document one of dev: the dev question names no document.
    assert rows == [[["p2"], ["d2"], "distant"], [["p2"], [], "distant"], [[], [], "answers"]] and missed == 0
    rows, _ = supervised(alone("train"), alone("dev"), judged("dev", "p4", "d4"))
    assert [row[2] for row in rows] == ["distant", "answers", "judged"]
    rows, _ = supervised(alone("dev"), by_hand=pd.DataFrame({"document_ids": [["d4"]]}))
    assert rows == [[[], [], "answers"]]


def test_documents_of_judged_questions_of_dev_and_test_are_left_to_them() -> None:
    rows, _ = supervised(alone("train"), judged("test", "p2", "d2"))
    assert rows[0] == [["p3"], ["d3"], "distant"]
    rows, missed = supervised(
        alone("train"), judged("test", "p2", "d2"), by_hand=pd.DataFrame({"document_ids": [["d3"]]})
    )
    assert rows[0] == [[], [], "answers"] and missed == 1


def test_what_is_judged_and_what_no_passage_holds_stays_as_it_is() -> None:
    rows, missed = supervised(judged("train", "p4", "d4"), alone("train", answers=("unicorn",)), alone("train", "?!"))
    assert rows == [[["p4"], ["d4"], "judged"], [[], [], "answers"], [[], [], "answers"]] and missed == 2
    assert supervised(judged("train", "p4", "d4"))[1] == 0
    by_yes = "Is there who knew?", ("Yes", "no.")
    passages = PASSAGES.assign(text="Yes, there is who knew, no?")
    table, missed = supervise(pd.DataFrame([alone("train", *by_yes)], columns=COLUMNS), NONE_BY_HAND, passages)
    assert table["passage_ids"].tolist() == [[]] and missed == 1


def test_it_finds_what_a_loop_over_the_whole_ranking_finds() -> None:
    draw = random.Random(0)
    words = [f"w{number}" for number in range(30)]
    texts = [" ".join(draw.choices(words, k=12)) for _ in range(60)]
    ids = [f"p{number}" for number in range(60)]
    passages = pd.DataFrame({"passage_id": ids, "document_id": ids, "title": "t", "text": texts})
    asked = [
        [" ".join(draw.choices(words, k=4)), [], [" ".join(draw.choices(words, k=2))], [], "train", "answers"]
        for _ in range(80)
    ]
    table, missed = supervise(pd.DataFrame(asked, columns=COLUMNS), NONE_BY_HAND, passages)
    index = BM25Index(ids, passage_inputs(passages))
    expected = []
    for text, _, answers, *_ in asked:
        _, rows = index.search([text], 60)
        expected.append([ids[row] for row in rows[0] if row >= 0 and has_answer(texts[row], answers)][:1])
    assert table["passage_ids"].tolist() == expected
    assert missed == expected.count([]) and 10 < missed < 75
