"""A folder may mix the formats; content tells them apart, and half a data set is never taken for a whole one."""

import gzip
import json
from pathlib import Path

import pytest

from ragsmith.collect.exchange.detect import detect_format
from ragsmith.collect.exchange.folder import read_records
from ragsmith.collect.exchange.source_text import split_of_name
from ragsmith.collect.exchange.wikiqa import HEADER

WIKIQA = "\t".join(HEADER) + "\r\nQ1\tq\tD1\tt\tD1-0\tright\t1\r\n"
SQUAD = json.dumps({"data": [{"title": "T", "paragraphs": [{"context": "Text.", "qas": []}]}]}, indent=1)
FLAG = '{"pos": ["x"], "query": "q", "neg": []}\n'
PAIRS = '{"positive": "x", "query": "q"}\n'


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (WIKIQA, "wikiqa"),
        (SQUAD, "squad"),
        (json.dumps(json.loads(SQUAD)), "squad"),
        (SQUAD[:-9], "squad"),
        (FLAG, "flagembedding"),
        ("{damaged\n" + FLAG, "flagembedding"),
        (PAIRS, "query_pairs"),
        ('{"query": "q", "passages": ["x"]}', None),
        ('{"text": "a document"}', None),
        ("# Notes", None),
        ("", None),
        ("[" * 100_000, None),
        ("{" * 100_000, None),
    ],
)
def test_content_and_not_the_name_decides_the_format(tmp_path: Path, content: str, wanted: str | None) -> None:
    path = tmp_path / "misleading.csv"
    path.write_bytes(content.encode())
    assert detect_format(path) == wanted
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + content.encode()))
    assert detect_format(path) == wanted


def test_a_folder_of_all_formats_is_one_set_and_what_is_no_record_is_listed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name, content in {"a-train.tsv": WIKIQA, "sub/b.json": SQUAD, "c-test.jsonl": FLAG, "d.jsonl": PAIRS}.items():
        (tmp_path / name).write_bytes(content.encode())
    (tmp_path / "README.md").write_text("# Notes")
    (tmp_path / "LICENSE.pdf").write_bytes(b"%PDF-1.4\xff\xfe")
    (tmp_path / ".hidden.jsonl").write_text("{")
    (tmp_path / "link.jsonl").symlink_to("/etc/passwd")
    reading = read_records(tmp_path)
    assert [(file["uri"], file["format"], file["split"], file["questions"]) for file in reading.files] == [
        ("a-train.tsv", "wikiqa", "train", 1),
        ("c-test.jsonl", "flagembedding", "test", 1),
        ("d.jsonl", "query_pairs", None, 1),
        ("sub/b.json", "squad", None, 0),
    ]
    # The text that two files share is one document.
    assert sorted(document.uri.partition(":")[0] for document in reading.records.documents) == [
        "squad",
        "text",
        "wikiqa",
    ]
    reasons = {row["uri"]: row["reason"] for row in reading.rejected}
    assert set(reasons) == {"README.md", "LICENSE.pdf", "link.jsonl"}
    assert "none of the formats" in reasons["README.md"] and reasons["LICENSE.pdf"] == "not a text file"


def test_the_faults_of_all_files_are_told_together(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"query": "q", "pos": []}')
    (tmp_path / "b.tsv").write_text("\t".join(HEADER) + "\nQ1\n")
    (tmp_path / "c.tsv.gz").write_bytes(gzip.compress(WIKIQA.encode())[:-9])
    with pytest.raises(ValueError, match=r"a\.jsonl:1: needs") as caught:
        read_records(tmp_path)
    assert "b.tsv:2: has 1 fields" in str(caught.value) and "c.tsv.gz: not a whole gzip" in str(caught.value)


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError, match="nowhere"):
        read_records(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("kb.csv", "A\tone two\nB\tthree", "knowledge_base"),
        ("kb.TSV.gz", "A\tone two\nno tab here\nB\tthree", "knowledge_base"),
        ("kb.txt", "A\tone two", None),
        ("kb.csv", "A,one\nB,two", None),
        ("kb.tsv", "1\tA\tone two", None),
        ("kb.tsv", "A\tone\nno\nno", None),
    ],
)
def test_two_columns_between_tabs_are_a_knowledge_base_where_the_name_says_table(
    tmp_path: Path, name: str, content: str, wanted: str | None
) -> None:
    path = tmp_path / name
    path.write_text(content)
    assert detect_format(path) == wanted


def test_a_folder_of_rag_end2end_retriever_is_read_wherever_its_parts_lie(tmp_path: Path) -> None:
    for folder in ("kb", "data/fold"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "kb/my.csv").write_text("Aaron\tAaron was a prophet.\n")
    for name, count in (("train", 3), ("val", 2), ("test", 1)):
        (tmp_path / f"data/fold/{name}.source").write_text("".join(f"{name} {line}?\n" for line in range(count)))
        (tmp_path / f"data/fold/{name}.target").write_text("a prophet\n" * count)
    reading = read_records(tmp_path)
    found = [(file["uri"], file["format"], file["split"], file["questions"]) for file in reading.files]
    assert found == [
        ("kb/my.csv", "knowledge_base", None, 0),
        ("data/fold/test.source", "source_target", "test", 1),
        ("data/fold/train.source", "source_target", "train", 3),
        ("data/fold/val.source", "source_target", "dev", 2),
    ]
    assert not reading.rejected and len(reading.records.documents) == 1 and len(reading.records.questions) == 6


def test_questions_without_anything_they_could_be_about_are_refused(tmp_path: Path) -> None:
    for suffix in ("source", "target"):
        (tmp_path / f"train.{suffix}").write_text("x\n")
    (tmp_path / "kb.csv").write_text("Aaron,a prophet\n")
    with pytest.raises(ValueError, match=r"1 questions and no knowledge base.*In kb\.csv most"):
        read_records(tmp_path)
    assert len(read_records(tmp_path, other_documents=True).records.questions) == 1
    # Where the knowledge base has faults itself, those are told and nothing else.
    (tmp_path / "kb.csv").write_text("Aaron\ta prophet\nMoses\t\n")
    with pytest.raises(ValueError, match=r"kb\.csv:2: nothing stands in the text") as caught:
        read_records(tmp_path)
    assert "no knowledge base" not in str(caught.value)


def test_half_a_pair_and_a_pair_that_is_there_twice_are_faults(tmp_path: Path) -> None:
    for name in ("train.source", "test.target", "val.source", "val.source.gz", "val.target"):
        (tmp_path / name).write_text("x\n")
    with pytest.raises(ValueError, match=r"train\.source: its \.target file is not there") as caught:
        read_records(tmp_path)
    assert "test.target: its .source file is not there" in str(caught.value)
    assert "val.source.gz is there too" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("WikiQA-dev.tsv.gz", "dev"),
        ("train-v2.0.json", "train"),
        ("squad_validation.json", "dev"),
        ("TEST.jsonl", "test"),
        ("train_test.jsonl", None),
        ("latest.jsonl", None),
        ("devices.jsonl", None),
    ],
)
def test_the_name_of_a_file_may_say_its_split(name: str, split: str | None) -> None:
    assert split_of_name(Path(name)) == split
