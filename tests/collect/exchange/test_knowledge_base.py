"""A table of titles and texts is cut as rag-end2end-retriever cuts it, and what is wrong with it is told by line."""

import gzip
import random
from pathlib import Path

import pytest

from ragsmith.collect.exchange.knowledge_base import read_knowledge_base, split_text


def original_split_text(text: str, n: int = 100, character: str = " ") -> list[str]:
    """`split_text` of use_own_knowledge_dataset.py, word by word."""
    parts = text.split(character)
    return [character.join(parts[i : i + n]).strip() for i in range(0, len(parts), n)]


def test_texts_are_cut_as_the_original_cuts_them() -> None:
    draw = random.Random(0)
    for _ in range(200):
        words = draw.choices(["word", "x\ny", "é.", "", " "], weights=[8, 1, 1, 1, 1], k=draw.randint(1, 350))
        text = " ".join(words)
        assert list(split_text(text)) == [passage for passage in original_split_text(text) if passage]
    exact = " ".join(["w"] * 200)
    assert [len(passage.split(" ")) for passage in split_text(exact)] == [100, 100]


def test_rows_of_one_title_are_one_document_with_the_passages_of_all(tmp_path: Path) -> None:
    path = tmp_path / "kb.csv"
    long = " ".join(f"w{number}" for number in range(150))
    path.write_text(f'Aaron\t{long}\nMoses\tHe said "yes".\n"Aaron"\t"A ""second"" row."\n\n\tno title here at all\n')
    records = read_knowledge_base(path)
    assert [(document.title, len(document.passages)) for document in records.documents] == [
        ("Aaron", 3),
        ("Moses", 1),
        ("no title here at", 1),
    ]
    aaron, moses, _ = records.documents
    assert " ".join(aaron.passages[:2]) == long and aaron.passages[2] == 'A "second" row.'
    assert moses.passages == ('He said "yes".',) and not records.questions


def test_a_header_is_passed_over_and_packed_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "kb.tsv.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbfTitle\ttext\r\nA\tone two\r\n"))
    (document,) = read_knowledge_base(path).documents
    assert (document.title, document.passages) == ("A", ("one two",))


def test_all_faults_are_told_at_once_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "kb.tsv"
    path.write_text("A\tone\nno tab\nB\t \nA\tone\nC\tx\ty\nD\t\x00\nA\ttwo\n")
    with pytest.raises(ValueError, match=r"has 5 faults") as caught:
        read_knowledge_base(path)
    for fault in (
        "kb.tsv:2: needs a TAB between title and text; the row is 'no tab'",
        "kb.tsv:3: nothing stands in the text of 'B'",
        "kb.tsv:4: title and text are those of line 1",
        "kb.tsv:5: has 3 fields",
        "kb.tsv:6: binary",
    ):
        assert fault in str(caught.value)


def test_what_cannot_be_a_knowledge_base_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kb.tsv"
    for content, message in ((b"", "no row is in it"), (b"A\t\xff\n", "not UTF-8"), (b"x" * 50, "more than 20 bytes")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_knowledge_base(path, max_bytes=20)
