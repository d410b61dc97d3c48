import hashlib

import pytest

from ragsmith.collect.documents import DOCUMENT_COLUMNS, Document, document_table

SETUP = Document("folder", "guide/setup.md", "Set-up", "# Set-up\n\nRun make.\n", "markdown")
NOTES = Document("folder", "notes.txt", "notes", "Nothing yet.")


def test_the_table_does_not_depend_on_the_order_of_the_documents() -> None:
    table = document_table([NOTES, SETUP])
    assert table.equals(document_table([SETUP, NOTES]))
    assert list(table.columns) == DOCUMENT_COLUMNS
    assert table["uri"].tolist() == ["guide/setup.md", "notes.txt"]


def test_an_id_stays_when_the_text_changes_and_the_sha256_does_not() -> None:
    before = document_table([SETUP]).iloc[0]
    after = document_table(
        [Document("folder", "guide/setup.md", "Set-up", "# Set-up\n\nRun pip.\n", "markdown")]
    ).iloc[0]
    assert before["document_id"] == after["document_id"]
    assert before["sha256"] == hashlib.sha256(SETUP.text.encode()).hexdigest() != after["sha256"]


def test_the_same_uri_in_two_sources_is_two_documents() -> None:
    table = document_table([NOTES, Document("sample", "notes.txt", "notes", "Nothing yet.")])
    assert table["document_id"].nunique() == 2


def test_two_documents_at_one_uri_are_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match=r"share the uri 'notes\.txt'"):
        document_table([NOTES, NOTES])


def test_no_documents_are_an_empty_table_with_all_columns() -> None:
    assert list(document_table([]).columns) == DOCUMENT_COLUMNS
