"""WikiQA's table is read as it is, and every fault of a file is told with its line."""

import gzip
from pathlib import Path

import pytest

from ragsmith.collect.exchange.record_set import RecordSet
from ragsmith.collect.exchange.wikiqa import HEADER, read_wikiqa

ROWS = [
    ["Q1", 'Who wrote "Emma"?', "D1", "Jane Austen", "D1-0", 'She wrote " Emma', "1"],
    ["Q1", 'Who wrote "Emma"?', "D1", "Jane Austen", "D1-1", "She lived in Bath .", "0"],
    ["Q1", 'Who wrote "Emma"?', "D1", "Jane Austen", "D1-2", "She lived in Bath .", "0"],
    ["Q2", "when?", "D2", "Time\u2028line", "D2-0", "Then\x85 it was .", "0"],
    ["Q3", "Where did she live?", "D1", "Jane Austen", "D1-1", "She lived in Bath .", "1"],
]


def table(rows: list[list[str]], end: str = "\n") -> bytes:
    return end.join("\t".join(row) for row in [HEADER, *rows]).encode()


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_sentences_become_passages_of_their_article_and_labels_positives_and_negatives(tmp_path: Path) -> None:
    records = read_wikiqa(write(tmp_path / "Wiki-train.tsv", table(ROWS)))
    texts = records.texts()
    assert [(d.title, d.passages) for d in records.documents] == [
        ("Jane Austen", ('She wrote " Emma', "She lived in Bath .")),
        ("Time\u2028line", ("Then\x85 it was .",)),
    ]
    read = [
        (q.question_id, q.text, [texts[i] for i in q.positive_ids], [texts[i] for i in q.negative_ids])
        for q in records.questions
    ]
    assert read == [
        ("Wiki-train:Q1", 'Who wrote "Emma"?', ['She wrote " Emma'], ["She lived in Bath ."]),
        ("Wiki-train:Q2", "when?", [], ["Then\x85 it was ."]),
        ("Wiki-train:Q3", "Where did she live?", ["She lived in Bath ."], []),
    ]
    assert {(q.split, q.origin) for q in records.questions} == {("train", "Wiki-train")}


def test_windows_line_ends_a_byte_order_mark_blank_lines_and_gzip_change_nothing(tmp_path: Path) -> None:
    plain = read_wikiqa(write(tmp_path / "a.tsv", table(ROWS)))
    other = b"\xef\xbb\xbf" + table(ROWS, "\r\n") + b"\r\n\r\n"
    assert read_wikiqa(write(tmp_path / "a.tsv", other)) == plain
    # Packed, whatever the name says.
    assert read_wikiqa(write(tmp_path / "a.tsv", gzip.compress(other))) == plain


def test_a_sentence_labelled_both_ways_for_one_question_is_right(tmp_path: Path) -> None:
    rows = [["Q1", "q", "D1", "t", "D1-0", "same", "0"], ["Q1", "q", "D1", "t", "D1-1", "same", "1"]]
    (question,) = read_wikiqa(write(tmp_path / "a.tsv", table(rows))).questions
    assert len(question.positive_ids) == 1 and question.negative_ids == ()


def test_all_faults_of_a_file_are_listed_with_their_lines(tmp_path: Path) -> None:
    rows = [
        ["Q1", "q", "D1", "t", "D1-0", "s", "1"],
        ["Q1", "q", "D1", "t", "D1-0"],
        ["Q1", "q", "D1", "t", "D1-2", "s", "2"],
        ["Q1", "q", "D1", "t", "D1-3", " ", "0"],
        ["Q1", "another q", "D1", "t", "D1-4", "s", "0"],
        ["Q1", "q", "D1", "another t", "D1-5", "s", "0"],
        ["Q1", "q", "D1", "t", "D1-0", "another s", "0"],
        ["Q1", "q", "D1", "t", "D1-6", "a\x00b", "0"],
    ]
    with pytest.raises(ValueError, match="has 7 faults") as caught:
        read_wikiqa(write(tmp_path / "a.tsv", table(rows)))
    for number, part in [
        (3, "has 5 fields, not 7"),
        (4, "Label is '2'"),
        (5, "nothing stands in Sentence"),
        (6, "QuestionID 'Q1' stands for something else in line 2"),
        (7, "DocumentID 'D1' stands for something else in line 2"),
        (8, "SentenceID 'D1-0' stands for something else in line 2"),
        (9, "NUL"),
    ]:
        assert any(
            line.strip().startswith(f"a.tsv:{number}: ") and part in line for line in str(caught.value).split("\n")
        )


def test_twenty_faults_are_shown_and_the_others_counted(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has 25 faults") as caught:
        read_wikiqa(write(tmp_path / "a.tsv", table([["x"]] * 25)))
    assert str(caught.value).count("a.tsv:") == 20 and "… and 5 more" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "needs the header"),
        (b"Q\tA\n1\t2\n", "needs the header"),
        (table([]), "no row follows"),
        (table(ROWS)[:-3] + b"\xff", "not UTF-8 text"),
        (gzip.compress(table(ROWS))[:-12], "not a whole gzip file"),
    ],
)
def test_a_file_that_is_no_such_table_is_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_wikiqa(write(tmp_path / "a.tsv", content))
    assert "a.tsv" in str(caught.value)


def test_a_small_file_that_unpacks_to_a_huge_one_is_refused(tmp_path: Path) -> None:
    bomb = write(tmp_path / "a.tsv.gz", gzip.compress(b" " * 5_000_000))
    assert bomb.stat().st_size < 10_000
    with pytest.raises(ValueError, match="more than 100,000 bytes"):
        read_wikiqa(bomb, max_bytes=100_000)


def test_an_empty_set_has_no_texts() -> None:
    assert RecordSet().texts() == {}
