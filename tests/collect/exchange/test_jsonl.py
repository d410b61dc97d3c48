"""Both JSONL formats are read with all their variants, and written as they were."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ragsmith.collect.exchange.flagembedding import read_flagembedding, write_flagembedding
from ragsmith.collect.exchange.jsonl import beginning
from ragsmith.collect.exchange.query_pairs import read_query_pairs, write_query_pairs
from ragsmith.collect.exchange.wikiqa import HEADER, read_wikiqa
from ragsmith.retrieve.passage_text import passage_inputs

FLAG = [
    {
        "query": "a\u2028b?",
        "pos": ["one", "two", "one"],
        "neg": ["three"],
        "pos_scores": [1, 0.5, 1],
        "neg_scores": [-2],
    },
    {"prompt": "Find: ", "neg": [], "query": "c", "pos": ["two"], "type": "normal", "mine": {"x": [None, 1.5]}},
    {"query": "d", "pos": ['ü "q" \\ 🏰'], "pos_scores": None, "neg": None, "neg_scores": []},
    {"query": "e", "pos": "bare"},
]
PAIRS = [
    {"query": "a", "positive": "one", "negative": "two", "source": "web"},
    {"query": "b", "positive": ["one"], "negative": ["two", "three"]},
    {"query": "c", "positive": ["one"]},
]


def write(path: Path, records: list[Any]) -> Path:
    path.write_text("\n".join(json.dumps(record, ensure_ascii=False) for record in records), "utf-8")
    return path


def lines(path: Path) -> list[Any]:
    # As pairs, so that the order of keys counts.
    return [json.loads(line, object_pairs_hook=list) for line in path.read_text("utf-8").split("\n") if line]


@pytest.mark.parametrize(
    ("records", "read", "write_back"),
    [(FLAG, read_flagembedding, write_flagembedding), (PAIRS, read_query_pairs, write_query_pairs)],
)
def test_a_file_comes_out_as_it_was_with_unknown_keys_order_and_empty_values(tmp_path, records, read, write_back):
    given = write(tmp_path / "in.jsonl", records)
    write_back(read(given), tmp_path / "out.jsonl")
    assert lines(tmp_path / "out.jsonl") == lines(given)


def test_each_distinct_text_is_one_document_of_one_verbatim_passage(tmp_path: Path) -> None:
    records = read_flagembedding(write(tmp_path / "mine-test.jsonl", FLAG))
    texts = records.texts()
    assert [d.passages for d in records.documents] == [("one",), ("two",), ("three",), ('ü "q" \\ 🏰',), ("bare",)]
    first = records.questions[0]
    assert [texts[i] for i in first.positive_ids] == ["one", "two", "one"]
    assert (first.positive_scores, first.negative_scores) == ((1, 0.5, 1), (-2,))
    assert (first.question_id, first.split, first.origin) == ("mine-test:1", "test", "mine-test")


def test_two_files_of_one_text_name_the_same_passage(tmp_path: Path) -> None:
    a, b = (write(tmp_path / f"{name}.jsonl", [{"query": name, "pos": ["x"]}]) for name in "ab")
    assert read_flagembedding(a).questions[0].positive_ids == read_flagembedding(b).questions[0].positive_ids


def test_records_of_another_format_are_written_and_read_back(tmp_path: Path) -> None:
    rows = [HEADER, ["Q1", "q", "D1", "t", "D1-0", "right", "1"], ["Q1", "q", "D1", "t", "D1-1", "wrong", "0"]]
    rows.append(["Q2", "without an answer", "D1", "t", "D1-1", "wrong", "0"])
    (tmp_path / "w.tsv").write_text("\n".join("\t".join(row) for row in rows))
    records = read_wikiqa(tmp_path / "w.tsv")
    write_flagembedding(records, tmp_path / "w.jsonl")
    assert lines(tmp_path / "w.jsonl") == [[("query", "q"), ("pos", ["right"]), ("neg", ["wrong"])]]
    write_query_pairs(read_flagembedding(tmp_path / "w.jsonl"), tmp_path / "p.jsonl")
    assert json.loads((tmp_path / "p.jsonl").read_text()) == {
        "query": "q",
        "positive": ["right"],
        "negative": ["wrong"],
    }


def test_what_lies_there_is_not_overwritten_and_nothing_to_write_is_an_error(tmp_path: Path) -> None:
    mine = write(tmp_path / "mine.jsonl", FLAG)
    with pytest.raises(FileExistsError):
        write_flagembedding(read_flagembedding(mine), mine)
    assert lines(mine) == lines(write(tmp_path / "copy.jsonl", FLAG))
    (tmp_path / "w.tsv").write_text("\t".join(HEADER) + "\nQ\tq\tD\tt\tD-0\ts\t0\n")
    with pytest.raises(ValueError, match="no question of these records"):
        write_flagembedding(read_wikiqa(tmp_path / "w.tsv"), tmp_path / "none.jsonl")
    assert not (tmp_path / "none.jsonl").exists()


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes('\ufeff{"query": "q", "pos": ["x"]}\r\n\r\n{"query": "r", "pos": ["y"]}\r\n'.encode())
    assert [q.question_id for q in read_flagembedding(path).questions] == ["a:1", "a:3"]


def test_all_faults_are_listed_with_their_lines(tmp_path: Path) -> None:
    faulty = [
        ["no object"],
        {"query": " ", "pos": ["x"]},
        {"query": "q", "pos": []},
        {"query": "q", "neg": ["x"]},
        {"query": "q", "pos": ["x", ""]},
        {"query": "q", "pos": ["x"], "neg": [3]},
        {"query": "q", "pos": ["x"], "neg": {"a": 1}},
        {"query": "q", "pos": ["x"], "pos_scores": [1, 2]},
        {"query": "q", "pos": ["x"], "pos_scores": [float("nan")]},
        {"query": "q", "pos": ["x"], "neg_scores": "high"},
        {"query": "q", "pos": ["a\x00b"]},
        {"query": ["q"], "pos": ["x"]},
    ]
    path = write(tmp_path / "a.jsonl", [{"query": "good", "pos": ["x"]}, *faulty])
    path.write_text(path.read_text("utf-8") + "\n{\n" + "[" * 100_000, "utf-8")
    with pytest.raises(ValueError, match="has 14 faults") as caught:
        read_flagembedding(path)
    for number, part in [
        (2, "not an object"),
        (3, "query is ' '"),
        (4, "at least one text in 'pos'"),
        (5, "at least one text in 'pos'"),
        (6, "pos is ['x', '']"),
        (7, "neg is [3]"),
        (8, "neg is {'a': 1}"),
        (9, "pos_scores has 2 scores for 1 texts in 'pos'"),
        (10, "not a list of finite numbers"),
        (11, "neg_scores is 'high'"),
        (12, "not a text"),
        (13, "query is ['q']"),
        (14, "not JSON"),
        (15, "not JSON"),
    ]:
        assert any(f"a.jsonl:{number}: " in line and part in line for line in str(caught.value).split("\n")), number


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n \n")
    with pytest.raises(ValueError, match="no record is in it"):
        read_flagembedding(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    "text", ["Short.", "word " * 40, "x" * 300, "A > B\nrest", "a" * 79 + " bcd", "a" * 78 + " bcdef gh", "  spaces"]
)
def test_a_model_reads_a_text_without_its_title_before_it(text: str) -> None:
    title = beginning(text)
    assert 0 < len(title) <= 80
    if not text.startswith(("x", " ")):  # no word ends in time, or white space comes first
        assert passage_inputs(pd.DataFrame({"title": [title], "text": [text]})) == [text]
