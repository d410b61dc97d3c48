"""Questions with answers and no passage, from text tables, JSONL and Parquet: all the same, or refused by row."""

import gzip
import json
from pathlib import Path

import pandas as pd
import pytest

from ragsmith.collect.exchange.detect import detect_format
from ragsmith.collect.exchange.folder import read_records
from ragsmith.collect.exchange.question_table import read_question_table

ROWS = [("Who, then?", ["me", "my own self"]), ("Where?", ["Paris"])]
FILES = {
    "dev.csv": 'id,Question,Answers\n1,"Who, then?","[""me"", ""my own self""]"\n2,Where?,Paris\n',
    "dev.tsv": "query\tanswers\textra\nWho, then?\t['me', 'my own self']\tx\n\nWhere?\t['Paris']\ty\n",
    "dev-de.csv": "question;target\nWho, then?;['me', \"my own self\"]\nWhere?;Paris\n",
    "dev.jsonl": "\n".join(
        [
            json.dumps({"query": "Who, then?", "answers": ["me", "my own self"], "id": 1}),
            json.dumps({"query": "Where?", "answer": "Paris"}),
        ]
    ),
}


def rows(path: Path) -> list[tuple[str, list[str]]]:
    records = read_question_table(path)
    assert not records.documents
    assert all(asked.split == "dev" and not asked.positive_ids for asked in records.questions)
    assert all(
        answer.passage_id == "" and answer.start == -1 for asked in records.questions for answer in asked.answers
    )
    return [(asked.text, [answer.text for answer in asked.answers]) for asked in records.questions]


@pytest.mark.parametrize("name", FILES)
def test_every_way_of_writing_the_same_rows_gives_the_same_questions(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(FILES[name])
    assert detect_format(path) == "question_table" and rows(path) == ROWS
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + FILES[name].encode()))
    assert detect_format(path) == "question_table" and rows(path) == ROWS


def test_parquet_is_read_with_lists_or_with_single_texts(tmp_path: Path) -> None:
    path = tmp_path / "dev.parquet"
    table = pd.DataFrame({"question": [row[0] for row in ROWS], "answers": [row[1] for row in ROWS], "other": [1, 2]})
    table.to_parquet(path)
    assert detect_format(path) == "question_table" and rows(path) == ROWS
    table.assign(answers=["x", "y"]).to_parquet(path)
    assert rows(path) == [("Who, then?", ["x"]), ("Where?", ["y"])]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "question,answer,context\nq,a,c\n"),
        ("a.jsonl", '{"query": "q", "passages": ["x"], "answers": ["a"]}'),
        ("a.csv", "question,reply\nq,a\n"),
    ],
)
def test_what_names_its_passages_or_has_no_answer_is_not_such_a_table(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert detect_format(tmp_path / name) is None
    assert "question and answer without passages" in read_records(tmp_path).rejected[0]["reason"]


@pytest.mark.parametrize("content", ["Who?\tme\nWhere?\tthere\n", "who is it\t['me']\nwhere\t['here', 'there']\n"])
def test_questions_without_header_never_become_a_knowledge_base(tmp_path: Path, content: str) -> None:
    (tmp_path / "qa.tsv").write_text(content)
    with pytest.raises(ValueError, match=r"qa\.tsv:1: needs a header"):
        read_records(tmp_path)


def test_all_faults_of_a_text_table_are_told_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "qa.csv"
    path.write_text("question,answer\nq,a\n,a\nq,\nq\nq,\"['a' 'b']\"\nq,\x00\n")
    with pytest.raises(ValueError, match="has 5 faults") as caught:
        read_question_table(path)
    for fault in ("3: the question is ''", "4: the answer is ['']", "5: has 1 fields", "6: the answer is", "7: the"):
        assert f"qa.csv:{fault}" in str(caught.value)


def test_all_faults_of_jsonl_are_told_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "qa.jsonl"
    lines = ['{"question": "q", "answer": "a"}', "{", "[1]", '{"question": "q"}', '{"question": "q", "answer": 7}']
    path.write_text("\n".join([*lines, '{"question": "q", "answer": []}', '{"question": "\\ud800", "answer": "a"}']))
    with pytest.raises(ValueError, match="has 6 faults") as caught:
        read_question_table(path)
    assert "qa.jsonl:2: not JSON" in str(caught.value) and "qa.jsonl:5: the answer is 7" in str(caught.value)


def test_parquet_with_faults_is_refused_by_row(tmp_path: Path) -> None:
    path = tmp_path / "qa.parquet"
    pd.DataFrame({"question": ["q", None, "q"], "answers": [["a"], ["a"], []]}).to_parquet(path)
    with pytest.raises(ValueError, match=r"qa\.parquet:row 2: the question is None") as caught:
        read_question_table(path)
    assert "qa.parquet:row 3: the answer is []" in str(caught.value)
    pd.DataFrame({"question": ["q"], "x": ["a"]}).to_parquet(path)
    assert detect_format(path) is None


def test_damaged_and_swollen_parquet_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "qa.parquet"
    # A dictionary keeps the text once: the file is small, and what it unpacks to is not.
    pd.DataFrame({"question": ["x" * 10_000] * 2_000, "answer": ["a"] * 2_000}).to_parquet(path)
    assert path.stat().st_size < 200_000
    with pytest.raises(ValueError, match=r"holds more than 1,000,000 bytes"):
        read_question_table(path, max_bytes=1_000_000)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"qa\.parquet: not a whole Parquet file"):
        read_records(tmp_path)


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "qa.csv"
    path.write_text("question,answer\n")
    with pytest.raises(ValueError, match="no row is in it"):
        read_question_table(path)
