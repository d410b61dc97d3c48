"""Rows of text tables: what the csv module reads of well-formed ones, and no row lost where marks are not closed."""

import csv
import io
import random

import pytest

from ragsmith.collect.exchange.delimited import delimited_rows


@pytest.mark.parametrize("delimiter", ["\t", ",", ";"])
def test_well_formed_tables_are_read_as_the_csv_module_reads_them(delimiter: str) -> None:
    draw = random.Random(0)
    alphabet = ["a", "é", '"', "\n", delimiter, " ", ""]
    for _ in range(300):
        rows = [["x" + "".join(draw.choices(alphabet, k=draw.randint(0, 6))) for _ in range(3)] for _ in range(4)]
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=delimiter, lineterminator=draw.choice(["\n", "\r\n"])).writerows(rows)
        assert [fields for _, fields in delimited_rows(text.getvalue(), delimiter)] == rows


def test_each_row_is_named_by_the_line_it_begins_in() -> None:
    text = 'a\tb\n\n"c\nd\n"\te\n \t \nf\tg'
    assert [number for number, _ in delimited_rows(text, "\t")] == [1, 3, 7]


def test_a_mark_that_no_fields_end_closes_is_text_and_takes_no_other_row_along() -> None:
    text = '"Heroes" is a song\tby "David" Bowie\n"Low\tan album\nNext\tcalled "Heroes"\n'
    assert [fields for _, fields in delimited_rows(text, "\t")] == [
        ['"Heroes" is a song', 'by "David" Bowie'],
        ['"Low', "an album"],
        ["Next", 'called "Heroes"'],
    ]


def test_a_field_may_be_longer_than_the_csv_module_allows() -> None:
    ((_, fields),) = delimited_rows(f'"{"x" * 200_000}"\ty', "\t")
    assert [len(field) for field in fields] == [200_000, 1]


def test_the_last_row_needs_no_line_end_and_empty_fields_count() -> None:
    assert list(delimited_rows("a,,\n,b,", ",")) == [(1, ["a", "", ""]), (2, ["", "b", ""])]
    assert list(delimited_rows("", ",")) == []
