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
