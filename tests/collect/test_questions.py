import json
import re
from pathlib import Path

import pandas as pd
import pytest

from ragsmith.collect.questions import (
    GOLD_COLUMNS,
    SAMPLE_EXAMPLES,
    SAMPLE_QUESTIONS,
    Question,
    for_training,
    read_questions,
    resolve_questions,
)
from ragsmith.collect.split import split_documents


def write(path: Path, *records: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), "utf-8")
    return path


def table(*rows: tuple[str, str, str, int]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["passage_id", "document_id", "title", "start"])


def ask(*names: str, text: str = "How?") -> Question:
    return Question(text, names, names, "q.jsonl:1")


def test_answers_are_the_passages_names_when_the_file_gives_none(tmp_path: Path) -> None:
    path = write(
        tmp_path / "q.jsonl",
        {"query": " How much? ", "passages": ["a", "b"]},
        {"query": "Who?", "passages": ["a"], "answers": ["me"]},
    )
    assert read_questions(path) == [
        Question("How much?", ("a", "b"), ("a", "b"), "q.jsonl:1"),
        Question("Who?", ("a",), ("me",), "q.jsonl:2"),
    ]


def test_a_byte_order_mark_blank_lines_and_line_separators_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_bytes(
        '\ufeff{"query": "a\u2028b", "passages": ["x"]}\r\n\r\n{"query": "c", "passages": ["x"]}'.encode()
    )
    assert [(q.text, q.where) for q in read_questions(path)] == [("a\u2028b", "q.jsonl:1"), ("c", "q.jsonl:3")]


def test_all_faults_are_listed_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    lines = [
        '{"query": "Good?", "passages": ["a"]}',
        "{",
        '["no object"]',
        '{"query": "  ", "passages": ["a"]}',
        '{"query": "No passages?"}',
        '{"query": "A string?", "passages": "a"}',
        '{"query": "An empty name?", "passages": [""]}',
        '{"query": "GOOD? ", "passages": ["a"]}',
        "[" * 100_000,
    ]
    path.write_text("\n".join(lines), "utf-8")
    with pytest.raises(ValueError, match="has 8 faults") as caught:
        read_questions(path)
    for number, part in [(2, "not JSON"), (3, "under 'query'"), (4, "under 'query'"), (5, "at least one entry")]:
        assert f"q.jsonl:{number}: " in str(caught.value) and part in str(caught.value)
    assert "q.jsonl:8: asked before" in str(caught.value)


def test_a_file_in_another_encoding_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"query": "Größe?", "passages": ["a"]}', "latin-1")
    with pytest.raises(ValueError, match=r"q\.jsonl is not UTF-8 text"):
        read_questions(tmp_path / "q.jsonl")


def test_a_name_finds_the_whole_title_or_its_last_part_in_every_document() -> None:
    passages = table(("p1", "d1", "Guide > Setup", 0), ("p2", "d2", "Setup", 0), ("p3", "d1", "Guide", 9))
    gold, missing = resolve_questions([ask("Setup"), ask("Guide > Setup", text="Where?")], passages)
    assert gold["passage_ids"].tolist() == [["p1", "p2"], ["p1"]]
    assert gold["document_ids"].tolist() == [["d1", "d2"], ["d1"]]
    assert missing == [] and gold.columns.tolist() == GOLD_COLUMNS


def test_of_a_long_section_the_first_piece_answers() -> None:
    passages = table(("p1", "d1", "Setup", 90), ("p2", "d1", "Setup", 10))
    assert resolve_questions([ask("Setup")], passages)[0]["passage_ids"].tolist() == [["p2"]]


def test_a_part_of_a_word_finds_nothing_and_is_reported() -> None:
    gold, missing = resolve_questions(
        [ask("etup"), ask("Set-up", "Setup", text="b")], table(("p", "d", "G > Setup", 0))
    )
    assert gold["text"].tolist() == ["b"]
    assert [(row["question"], row["passage"]) for row in missing] == [("How?", "etup"), ("b", "Set-up")]


def test_one_question_in_two_files_is_an_error_that_names_both() -> None:
    other = Question("how?", ("Setup",), ("Setup",), "r.jsonl:4")
    with pytest.raises(ValueError, match=r"r\.jsonl:4 asks what q\.jsonl:1 asks"):
        resolve_questions([ask("Setup"), other], table(("p", "d", "Setup", 0)))


def test_no_question_found_gives_an_empty_table_with_all_columns() -> None:
    assert resolve_questions([], table())[0].columns.tolist() == GOLD_COLUMNS


def test_examples_about_other_than_training_documents_or_asked_as_gold_are_left_out() -> None:
    splits = pd.DataFrame({"document_id": ["d1", "d2", "d3"], "split": ["train", "train", "test"]})
    questions = pd.DataFrame(
        {
            "query_id": ["a", "b", "c", "d", "e"],
            "text": ["one", "both train", "half test", "all test", "How MUCH?"],
            "document_ids": [["d1"], ["d1", "d2"], ["d1", "d3"], ["d3"], ["d2"]],
        }
    )
    kept, left_out = for_training(questions, splits, pd.DataFrame({"text": ["how much?"]}))
    assert kept["query_id"].tolist() == ["a", "b"] and kept.index.tolist() == [0, 1]
    assert left_out == {"not about training documents alone": 2, "a gold question": 1}


def test_no_examples_give_an_empty_table_with_all_columns() -> None:
    none = resolve_questions([], table())[0]
    kept, left_out = for_training(none, pd.DataFrame({"document_id": ["d1"], "split": ["train"]}), none)
    assert kept.columns.tolist() == GOLD_COLUMNS and set(left_out.values()) == {0}


@pytest.fixture(scope="module")
def gold(sample) -> pd.DataFrame:
    found, missing = resolve_questions(read_questions(SAMPLE_QUESTIONS), sample.passages)
    # A few names may be unknown to another Python version.
    assert len(missing) <= 0.02 * len(found), missing
    return found


def test_the_sample_has_hundreds_of_questions_over_a_hundred_modules(gold: pd.DataFrame) -> None:
    assert len(gold) >= 300 and gold["query_id"].is_unique
    assert len({document_id for ids in gold["document_ids"] for document_id in ids}) >= 100


def test_the_sample_questions_do_not_name_their_answer(gold: pd.DataFrame) -> None:
    given_away = [
        row.text
        for row in gold.itertuples(index=False)
        for answer in row.answers
        if answer.casefold() in row.text.casefold() and "." in answer
    ]
    assert given_away == []


def test_the_sample_splits_into_dev_and_test_questions_with_no_document_in_two(sample, gold: pd.DataFrame) -> None:
    splits = split_documents(sample.documents["document_id"].tolist(), gold["document_ids"].tolist(), 0.4, 0.6, seed=0)
    assert splits["document_id"].is_unique and len(splits) == len(sample.documents)
    split_of = dict(zip(splits["document_id"], splits["split"], strict=True))
    of_question = [{split_of[document_id] for document_id in ids} for ids in gold["document_ids"]]
    assert all(found in ({"dev"}, {"test"}) for found in of_question)
    assert abs(of_question.count({"dev"}) - 0.4 * len(gold)) <= 5
    assert (splits["split"] == "train").sum() >= 100


def test_the_sample_s_examples_are_about_training_documents_and_share_none_with_the_gold(sample, gold) -> None:
    splits = split_documents(sample.documents["document_id"].tolist(), gold["document_ids"].tolist(), 0.4, 0.6, seed=0)
    found, missing = resolve_questions(read_questions(SAMPLE_EXAMPLES), sample.passages)
    assert len(missing) <= 0.02 * len(found), missing
    examples, left_out = for_training(found, splits, gold)
    assert len(examples) >= 1000 and sum(left_out.values()) <= 0.1 * len(found), left_out
    judged = {document_id for ids in gold["document_ids"] for document_id in ids}
    assert judged.isdisjoint(document_id for ids in examples["document_ids"] for document_id in ids)
    # Nor in other words: punctuation, case and word order aside.
    bags = {frozenset(re.findall(r"\w+", text.casefold())) for text in gold["text"]}
    assert [text for text in examples["text"] if frozenset(re.findall(r"\w+", text.casefold())) in bags] == []
