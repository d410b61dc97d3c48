"""Questions in one file and their answers in another: paired by line, or refused with every line that is wrong."""

import gzip
from pathlib import Path

import pytest

from ragsmith.collect.exchange.record_set import Answer
from ragsmith.collect.exchange.source_target import pair_suffix, read_source_target


def pair(folder: Path, source: bytes, target: bytes, name: str = "val") -> tuple[Path, Path]:
    paths = folder / f"{name}.source", folder / f"{name}.target"
    for path, content in zip(paths, (source, target), strict=True):
        path.write_bytes(content)
    return paths


def test_each_question_has_the_answer_of_its_line_and_no_passage(tmp_path: Path) -> None:
    records = read_source_target(*pair(tmp_path, b"Who?\nWhere ?\r\n", gzip.compress("me \nÉrmont".encode())))
    assert [(asked.text, asked.answers, asked.split) for asked in records.questions] == [
        ("Who?", (Answer("me", "", -1),), "dev"),
        ("Where ?", (Answer("Érmont", "", -1),), "dev"),
    ]
    assert not records.documents and not any(asked.positive_ids for asked in records.questions)
    assert [asked.question_id for asked in records.questions] == ["val:1", "val:2"]


def test_the_faults_of_both_files_are_told_together(tmp_path: Path) -> None:
    files = pair(tmp_path, b"a\n\nb\nc\nd\n", b"1\n2\n \n\x00\n")
    with pytest.raises(ValueError, match=r"val\.source:2: the line is empty") as caught:
        read_source_target(*files)
    assert "val.target:3: the line is empty" in str(caught.value) and "val.target:4: binary" in str(caught.value)
    assert "val.source:5: it has 5 lines and val.target 4" in str(caught.value)


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (b"", b"x", r"val\.source:1: no line"),
        (b"a\nb\n\n", b"x\ny\n\n", r"val\.source:3: the line is empty"),
        (b"\xff\n", b"x\n", r"val\.source: not UTF-8"),
        (b"a\n", b"\xff\n", r"val\.target: not UTF-8"),
        (b"a" * 99, b"x\n", r"val\.source: holds more than 20 bytes"),
    ],
)
def test_files_that_are_no_pair_are_refused(tmp_path: Path, source: bytes, target: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_source_target(*pair(tmp_path, source, target), max_bytes=20)


def test_the_name_tells_the_half() -> None:
    assert pair_suffix(Path("a/train.SOURCE.gz")) == ".source" and pair_suffix(Path("x.target")) == ".target"
    assert pair_suffix(Path("target")) is None and pair_suffix(Path("x.gz")) is None
