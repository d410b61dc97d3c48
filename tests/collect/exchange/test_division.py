"""Questions of records are divided so that no document, and no question, is in two splits."""

import math
import random
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ragsmith.collect.exchange.division import (
    ASKED_AGAIN,
    JOINED,
    SHARED,
    TAKEN,
    UNANSWERED,
    answered_questions,
    by_supervision,
    divide_questions,
    given_negatives,
    judged_questions,
    positive_scores,
    require_training,
    training_questions,
)
from ragsmith.collect.exchange.tables import QUESTION_COLUMNS
from ragsmith.collect.questions import GOLD_COLUMNS
from ragsmith.datasets import ParquetTable

SHARES = {"train": 0.8, "dev": 0.1, "test": 0.1}
# p1a and p1b in d1, and so on.
PASSAGES = pd.DataFrame(
    [[f"p{number}{letter}", f"d{number}", f"text {number}{letter}"] for number in range(40) for letter in "ab"],
    columns=["passage_id", "document_id", "text"],
)
NO_DUPLICATES = pd.DataFrame(columns=["passage_id", "duplicate_of"])


def ask(text: str, *passages: str, split: str = "", **more: Any) -> dict[str, Any]:
    empty = {"positive_scores": [], "negative_ids": [], "negative_scores": [], "answers": [], "origin": "file"}
    return {"text": text, "passage_ids": list(passages), "split": split, **empty, **more}


def answered(*asked: dict[str, Any], duplicates: pd.DataFrame = NO_DUPLICATES) -> tuple[pd.DataFrame, dict[str, int]]:
    return answered_questions(pd.DataFrame(list(asked), columns=QUESTION_COLUMNS), PASSAGES, duplicates)


def divided(*asked: dict[str, Any], taken: tuple[str, ...] = (), complete: bool = False, seed: int = 0):
    return divide_questions(answered(*asked)[0], taken, SHARES, seed, complete)


def splits(table: pd.DataFrame) -> dict[str, str]:
    return dict(zip(table["text"], table["split"], strict=True))


def no_document_is_in_two_splits(table: pd.DataFrame) -> bool:
    return table[["document_ids", "split"]].explode("document_ids").drop_duplicates()["document_ids"].is_unique


def test_a_text_asked_twice_is_one_question_with_all_its_passages() -> None:
    table, left_out = answered(
        ask("Who?", "p1a", negative_ids=["p3a", "p2a"], negative_scores=[0.5, 0.4], answers=["me"]),
        ask("  WHO? ".strip(), "p2a", negative_ids=["p3b"], answers=["you", "me"]),
        ask("Nobody?"),
        ask("Impossible?", negative_ids=["p3a"]),
    )
    (row,) = table.to_dict("records")
    assert row["passage_ids"] == ["p1a", "p2a"] and row["document_ids"] == ["d1", "d2"]
    assert row["answers"] == ["me", "you"] and row["text"] == "Who?"
    # What is right for one of them is no negative.
    assert row["negative_ids"] == ["p3a", "p3b"]
    assert row["negative_scores"][0] == 0.5 and math.isnan(row["negative_scores"][1])
    assert row["supervision"] == "judged" and left_out == {UNANSWERED: 2, ASKED_AGAIN: 0, JOINED: 1}


def test_a_question_with_an_answer_and_no_passage_stays_and_takes_a_passage_that_another_file_names() -> None:
    table, left_out = answered(
        ask("Alone?", answers=["me"], split="test"),
        ask("Who?", answers=["you"]),
        ask("who?", "p1a"),
        ask("alone?", "p2a", split="train"),
    )
    rows = table[["text", "passage_ids", "answers", "document_ids", "split", "supervision"]].to_numpy().tolist()
    assert rows == [
        ["Alone?", [], ["me"], [], "test", "answers"],
        ["Who?", ["p1a"], ["you"], ["d1"], "", "judged"],
    ]
    assert left_out == {UNANSWERED: 0, ASKED_AGAIN: 1, JOINED: 1}


def test_questions_of_which_no_document_is_known_are_divided_one_by_one_unless_their_file_says_the_split() -> None:
    free = [ask(f"free {number}", answers=["x"]) for number in range(60)]
    named = [ask("t", answers=["x"], split="test"), ask("d", "p1a", split="dev"), ask("d too", "p1a", answers=["x"])]
    table, left_out = divided(*free, *named)
    found = splits(table)
    assert len(table) == 63 and found["t"] == "test" and found["d"] == found["d too"] == "dev"
    counts = pd.Series([found[f"free {number}"] for number in range(60)]).value_counts().to_dict()
    assert counts == {"train": 48, "dev": 6, "test": 6} and left_out == {TAKEN: 0, SHARED: 0}
    assert table.loc[table["text"] != "d", "document_ids"].map(len).sum() == 1  # of "d too" alone: none is made up
    assert splits(divided(*free, seed=1)[0]) != splits(divided(*free)[0]) == splits(divided(*reversed(free))[0])
    assert by_supervision(table) == {"answers": {"dev": 6, "test": 7, "train": 48}, "judged": {"dev": 2}}


def test_a_lone_training_file_without_documents_gives_dev_and_test_too() -> None:
    asked = [ask(f"{number}", answers=["x"], split="train") for number in range(40)]
    assert set(divided(*asked)[0]["split"]) == {"train"}
    table, _ = divided(*asked, complete=True)
    assert table["split"].value_counts().to_dict() == {"train": 32, "dev": 4, "test": 4}


def test_a_question_of_two_splits_belongs_to_the_strictest() -> None:
    table, left_out = answered(ask("q", "p1a", split="train"), ask("Q", "p2a", split="test"), ask("q", "p3a"))
    assert table["split"].tolist() == ["test"] and table["passage_ids"].tolist() == [["p2a", "p3a"]]
    assert left_out[ASKED_AGAIN] == 1


def test_training_questions_that_dev_and_test_ask_too_are_refused_when_none_is_left() -> None:
    asked = [ask("q", "p1a", split="train"), ask("q", "p1a", split="test"), ask("r", answers=["x"], split="train")]
    for count, refused in ((2, True), (3, False)):
        questions = pd.DataFrame(asked[:count], columns=QUESTION_COLUMNS)
        table, _ = answered(*asked[:count])
        if refused:
            with pytest.raises(ValueError, match="All 1 training questions of the records are asked in their files"):
                require_training(questions, table)
        else:
            require_training(questions, table)
    require_training(pd.DataFrame(asked[1:2], columns=QUESTION_COLUMNS), answered(*asked[1:2])[0])


def test_a_passage_that_was_dropped_as_duplicate_is_the_one_that_was_kept() -> None:
    kept = pd.DataFrame({"passage_id": ["gone"], "duplicate_of": ["p5a"]})
    table, _ = answered(ask("q", "gone", "p5a", negative_ids=["gone"]), duplicates=kept)
    assert table["passage_ids"].tolist() == [["p5a"]] and table["document_ids"].tolist() == [["d5"]]
    assert table["negative_ids"].tolist() == [[]]


def test_without_short_answers_the_right_passages_are_the_answer() -> None:
    assert answered(ask("q", "p1a"))[0]["answers"].tolist() == [["text 1a"]]


def test_a_training_question_about_a_document_of_test_is_left_out_and_counted() -> None:
    table, left_out = divided(
        ask("test", "p1a", split="test"),
        ask("same document", "p1b", split="train"),
        ask("half of it", "p1b", "p2a", split="train"),
        ask("dev, same document", "p1b", split="dev"),
        ask("dev", "p4a", split="dev"),
        ask("other", "p3a", split="train"),
    )
    assert splits(table) == {"test": "test", "other": "train", "dev": "dev"} and left_out == {TAKEN: 0, SHARED: 3}
    assert no_document_is_in_two_splits(table)


def test_questions_of_files_without_a_split_follow_their_documents_or_are_divided_by_document() -> None:
    named = [ask("test", "p0a", split="test"), ask("train", "p1a", split="train")]
    free = [ask(f"free {number}", f"p{number}b") for number in range(40)]
    table, left_out = divided(*named, *free, ask("between", "p0a", "p1a"))
    found = splits(table)
    assert found["free 0"] == "test" and found["free 1"] == "train" and "between" not in found
    assert left_out == {TAKEN: 0, SHARED: 1}
    counts = table["split"].value_counts()
    assert 30 <= counts["train"] <= 33 and 3 <= counts["dev"] <= 5 and 3 <= counts["test"] <= 6
    assert no_document_is_in_two_splits(table)


def test_questions_that_hang_together_by_documents_stay_together() -> None:
    chains = [ask(f"{number}", f"p{number}a", f"p{number + 1}a") for number in range(20) if number % 5 != 4]
    table, left_out = divided(*chains)
    assert left_out[SHARED] == 0 and set(table["split"]) == {"train", "dev", "test"}
    assert no_document_is_in_two_splits(table)


def test_a_lone_training_file_gives_dev_and_test_by_document_only_when_nothing_else_does() -> None:
    asked = [ask(f"{number}", f"p{number}a", split="train") for number in range(40)]
    assert set(divided(*asked)[0]["split"]) == {"train"}
    table, left_out = divided(*asked, complete=True)
    assert table["split"].value_counts().to_dict() == {"train": 32, "dev": 4, "test": 4} and left_out[SHARED] == 0
    # A test file is there: dev alone is taken out of training.
    table, _ = divided(*asked[1:], ask("0", "p0a", split="test"), complete=True)
    assert splits(table)["0"] == "test" and table["split"].value_counts()["test"] == 1
    assert table["split"].value_counts()["dev"] == 4 and no_document_is_in_two_splits(table)


def test_too_few_documents_to_divide_all_train() -> None:
    table, _ = divided(ask("a", "p1a", split="train"), ask("b", "p1b", split="train"), complete=True)
    assert set(table["split"]) == {"train"}


def test_documents_of_questions_written_by_hand_are_theirs() -> None:
    table, left_out = divided(ask("a", "p1a", split="dev"), ask("b", "p2a", split="dev"), taken=("d1",))
    assert splits(table) == {"b": "dev"} and left_out == {TAKEN: 1, SHARED: 0}


def test_the_same_seed_gives_the_same_division_and_another_another() -> None:
    asked = [ask(f"{number}", f"p{number}a") for number in range(40)]
    first, again, other = (divided(*asked, seed=seed)[0] for seed in (0, 0, 1))
    assert splits(first) == splits(again) != splits(other)


def test_no_records_give_empty_tables_with_all_columns() -> None:
    table, left_out = divided(complete=True)
    assert table.empty and {*GOLD_COLUMNS, "split", "negative_ids"} <= set(table.columns) and left_out[SHARED] == 0
    gold, again = judged_questions(pd.DataFrame(columns=GOLD_COLUMNS), table)
    assert gold.empty and gold.columns.tolist() == [*GOLD_COLUMNS, "split", "supervision"] and again == 0
    empty = pd.DataFrame(columns=["document_id", "split"])
    assert given_negatives(table, PASSAGES, empty)[0].columns.tolist() == ["query_id", "passage_id", "score"]


def test_dev_and_test_join_the_gold_and_what_is_asked_by_hand_counts_once() -> None:
    table, _ = divided(
        ask("a", "p1a", split="dev"), ask("By hand", "p2a", split="test"), ask("t", "p3a", split="train")
    )
    by_hand = pd.DataFrame([["g-1", "by HAND", ["p9a"], ["x"], ["d9"], "mine"]], columns=GOLD_COLUMNS)
    gold, again = judged_questions(by_hand, table)
    assert list(zip(gold["text"], gold["split"], strict=True)) == [("by HAND", ""), ("a", "dev")] and again == 1


def test_given_negatives_are_of_training_documents_under_the_ids_of_the_training_queries() -> None:
    given = {"negative_ids": ["p2a", "p3a"], "negative_scores": [0.25, 0.75]}
    table, _ = divided(ask("T", "p1a", split="train", **given), ask("asked", "p4a", split="train"))
    training = training_questions(table, pd.DataFrame({"text": ["ASKED"]}))
    assert training["text"].tolist() == ["T"]
    parts = pd.DataFrame({"document_id": ["d1", "d2", "d3"], "split": ["train", "train", "test"]})
    negatives, dropped = given_negatives(training, PASSAGES, parts)
    query_id = "e-" + training["query_id"].iloc[0].removeprefix("g-")
    assert (
        negatives.to_dict("records") == [{"query_id": query_id, "passage_id": "p2a", "score": 0.25}] and dropped == 1
    )


def scored(text: str, right: dict[str, float], wrong: dict[str, float], **more: Any) -> dict[str, Any]:
    of_right, of_wrong = list(right.values()), list(wrong.values())
    return ask(text, *right, positive_scores=of_right, negative_ids=list(wrong), negative_scores=of_wrong, **more)


def on_disk(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """The table as the next step is given it."""
    dataset = ParquetTable(filepath=str(folder / "table.parquet"))
    dataset.save(table)
    return dataset.load()


def test_scores_of_a_question_that_is_scored_in_whole_are_a_teacher_s_and_others_are_counted(tmp_path) -> None:
    table, _ = answered(
        scored("whole", {"p1a": 4, "p2a": 3}, {"p3a": 0.5}),
        ask("right ones alone", "p4a", positive_scores=[4], negative_ids=["p5a"]),
        ask("wrong ones alone", "p4a", negative_ids=["p5a"], negative_scores=[1]),
        scored("without negatives", {"p4a": 4}, {}),
        ask("not at all", "p4a", negative_ids=["p5a"]),
        ask("an answer alone", answers=["me"]),
    )
    scores, in_part = positive_scores(on_disk(table, tmp_path))
    query_id = "e-" + table["query_id"].iloc[0].removeprefix("g-")
    assert scores.to_numpy().tolist() == [[query_id, "p1a", 4], [query_id, "p2a", 3]] and in_part == 3
    assert positive_scores(table.iloc[:0])[0].columns.tolist() == ["query_id", "passage_id", "score"]


def test_a_question_that_a_file_scores_in_several_rows_has_the_scores_of_all_and_copies_count_once() -> None:
    copy = pd.DataFrame({"passage_id": ["p1b"], "duplicate_of": ["p1a"]})
    rows = scored("q", {"p1a": 4}, {"p3a": 1}), scored("Q", {"p1b": 4.5, "p2a": 2}, {"p3a": 1, "p4a": 0, "p2a": 2})
    row = answered(*rows, duplicates=copy)[0].iloc[0]
    assert (row.passage_ids, row.positive_scores) == (["p1a", "p2a"], [4, 2])
    assert (row.negative_ids, row.negative_scores) == (["p3a", "p4a"], [1, 0])


def test_scores_of_two_files_are_never_mixed_in_one_question() -> None:
    first, other = scored("q", {"p1a": 4}, {"p3a": 1}), scored("q", {"p1a": 0.9, "p2a": 0.8}, {"p3a": 0.1}, origin="b")
    row = answered(first, other)[0].iloc[0]
    assert row.passage_ids == ["p1a", "p2a"] and row.positive_scores[0] == 4 and math.isnan(row.positive_scores[1])
    assert positive_scores(answered(first, other)[0])[1] == 1
    assert len(positive_scores(answered(other, first)[0])[0]) == 2  # this file has scored all that both name


@pytest.mark.parametrize("complete", [False, True])
def test_however_files_overlap_no_document_is_in_two_splits(complete: bool) -> None:
    for seed in range(200):
        draw = random.Random(seed)
        asked = [
            ask(
                str(number),
                *{f"p{draw.randrange(12)}{draw.choice('ab')}" for _ in range(draw.randint(1, 3))},
                split=draw.choice(["", "", "train", "dev", "test"]),
            )
            for number in range(draw.randint(1, 12))
        ]
        table, left_out = divided(*asked, complete=complete, taken=("d11",), seed=seed)
        assert no_document_is_in_two_splits(table), asked
        assert len(table) + sum(left_out.values()) == len(asked)
