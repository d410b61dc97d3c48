import json
import os
from pathlib import Path

import pytest

from ragsmith.collect.documents import document_table
from ragsmith.collect.folder import FolderReading, read_folder


def reasons(reading: FolderReading) -> dict[str, str]:
    return {row["uri"]: row["reason"] for row in reading.rejected}


def write_records(path: Path, *records: object) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")


def test_text_and_markdown_become_documents_in_the_order_of_their_paths(tmp_path: Path) -> None:
    (tmp_path / "guide").mkdir()
    (tmp_path / "guide" / "setup.md").write_text("# Set-up\n\nRun make.\n", "utf-8")
    (tmp_path / "notes.txt").write_text("# no heading here\n", "utf-8")
    documents = read_folder(tmp_path).documents
    assert [(d.uri, d.title, d.markup) for d in documents] == [
        ("guide/setup.md", "Set-up", "markdown"),
        ("notes.txt", "notes", "plain"),
    ]
    assert documents[0].text == "# Set-up\n\nRun make.\n"
    assert documents[0].fetched_at.endswith("+00:00")


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("## Closed ##\n\ntext", "Closed"),
        ("#\n\ntext", "a"),
        ("#hashtag", "a"),
        ("text\n\n# Later", "a"),
        ("# f(x)\n\ntext", "f"),
    ],
)
def test_a_title_is_the_heading_that_the_file_begins_with_or_its_name(tmp_path: Path, text: str, title: str) -> None:
    (tmp_path / "a.md").write_text(text, "utf-8")
    assert read_folder(tmp_path).documents[0].title == title


def test_a_byte_order_mark_and_windows_line_endings_are_no_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_bytes(b"\xef\xbb\xbf# Title\r\n\r\ntext\r\n")
    (document,) = read_folder(tmp_path).documents
    assert (document.title, document.text) == ("Title", "# Title\n\ntext\n")


def test_records_bring_their_own_names_and_titles(tmp_path: Path) -> None:
    write_records(
        tmp_path / "faq.jsonl",
        {
            "id": "one",
            "title": "First\nquestion",
            "text": "# A\r\nb",
            "markup": "markdown",
            "licence": "CC0-1.0",
            "n": 1,
        },
        {"url": "https://example.org/x", "text": "second"},
        {"text": "third"},
    )
    one, two, three = read_folder(tmp_path).documents
    assert (one.uri, one.title, one.text, one.markup, one.licence) == (
        "faq.jsonl#one",
        "First question",
        "# A\nb",
        "markdown",
        "CC0-1.0",
    )
    assert (two.uri, two.title) == ("faq.jsonl#https://example.org/x", "https://example.org/x")
    assert (three.uri, three.title) == ("faq.jsonl#3", "faq.jsonl#3")


def test_a_second_record_of_one_id_is_rejected_and_the_table_can_be_built(tmp_path: Path) -> None:
    write_records(tmp_path / "a.jsonl", {"id": "x", "text": "first"}, {"id": "x", "text": "second"}, {"text": "third"})
    write_records(tmp_path / "b.jsonl", {"id": "x", "text": "another file"})
    reading = read_folder(tmp_path)
    assert reasons(reading) == {"a.jsonl#2": "its id or url is that of line 1"}
    assert sorted(document_table(reading.documents)["text"]) == ["another file", "first", "third"]


def test_an_id_that_looks_like_a_line_number_does_not_break_the_table(tmp_path: Path) -> None:
    write_records(tmp_path / "a.jsonl", {"id": "2", "text": "first"}, {"text": "second"})
    reading = read_folder(tmp_path)
    assert len(document_table(reading.documents)) + len(reading.rejected) == 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x89PNG\r\n\x1a\n\x00", "not UTF-8 text (byte 0)"),
        (b"caf\xe9", "not UTF-8 text (byte 3)"),
        (b"text\x00text", "binary"),
        ("text".encode("utf-16-le"), "binary"),
        (b"", "empty"),
        (b" \n\t\n", "empty"),
    ],
)
def test_a_file_that_is_no_text_is_rejected_with_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    reading = read_folder(tmp_path)
    assert reading.documents == [] and reasons(reading) == {"a.txt": reason}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not JSON"),
        (b"[" * 200_000, "not JSON"),
        (b'{"text": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"text": "caf\xe9"}', "not JSON"),
        (b"[1]", "no text"),
        (b'"text"', "no text"),
        (b'{"text": 5}', "no text"),
        (b'{"text": " "}', "no text"),
        (rb'{"text": "a\u0000b"}', "binary"),
        (rb'{"text": "half \ud800 a pair"}', "binary"),
        (rb'{"text": "fine", "title": "\udfff"}', "binary"),
    ],
)
def test_a_bad_record_is_rejected_and_its_neighbours_are_kept(tmp_path: Path, line: bytes, reason: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "before"}\n\n' + line + b'\n{"text": "after"}\n')
    reading = read_folder(tmp_path)
    assert [document.text for document in reading.documents] == ["before", "after"]
    (rejected,) = reading.rejected
    assert rejected["uri"] == "a.jsonl#3" and rejected["reason"].startswith(reason) and len(rejected["reason"]) < 200
    assert len(document_table(reading.documents)) == 2


def test_a_file_above_the_limit_is_rejected_unread(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x" * 11)
    (tmp_path / "b.txt").write_text("x" * 10)
    reading = read_folder(tmp_path, max_bytes=10)
    assert [document.uri for document in reading.documents] == ["b.txt"]
    assert reasons(reading) == {"a.txt": "larger than 10 bytes"}


def test_links_that_leave_the_folder_are_rejected_and_those_within_are_read(tmp_path: Path) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (inside / "a.txt").write_text("text")
    (inside / "own.txt").symlink_to(inside / "a.txt")
    (inside / "out.txt").symlink_to(tmp_path / "secret.txt")
    (inside / "loop.txt").symlink_to(inside / "loop.txt")
    (inside / "dangling.txt").symlink_to(inside / "gone.txt")
    (inside / "up").symlink_to(tmp_path, target_is_directory=True)
    reading = read_folder(inside)
    assert [document.uri for document in reading.documents] == ["a.txt", "own.txt"]
    assert reasons(reading) == {"out.txt": "link that leaves the folder"}


def test_hidden_files_pipes_and_unknown_types_are_not_read(tmp_path: Path) -> None:
    (tmp_path / ".hidden.txt").write_text("no")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "a.txt").write_text("no")
    (tmp_path / "a.exe").write_bytes(b"MZ")
    os.mkfifo(tmp_path / "pipe.txt")
    reading = read_folder(tmp_path)
    assert reading.documents == [] and reasons(reading) == {"a.exe": "unknown file type .exe"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "a.txt").chmod(0)
    assert reasons(read_folder(tmp_path)) == {"a.txt": "cannot be read: Permission denied"}


def test_a_file_name_that_is_no_utf_8_can_be_written_to_a_table(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("text")
    (document,) = read_folder(tmp_path).documents
    assert document.uri == "caf\\udce9.txt"
    assert len(document_table([document])) == 1


def test_a_missing_folder_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError, match=r"Create it and put \.md"):
        read_folder(tmp_path / "gone")


def test_reading_changes_nothing(tmp_path: Path) -> None:
    write_records(tmp_path / "a.jsonl", {"text": "a"})
    before = [(path, path.stat().st_mtime_ns) for path in sorted(tmp_path.rglob("*"))]
    read_folder(tmp_path)
    assert before == [(path, path.stat().st_mtime_ns) for path in sorted(tmp_path.rglob("*"))]
