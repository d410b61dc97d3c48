import json

import numpy as np
import pandas as pd
import pytest

from ragsmith.evaluate.report.detail import LEVELS, Detail, pack_within, spread
from ragsmith.evaluate.report.safe_json import safe_json
from ragsmith.evaluate.report.sections import CATEGORIES

ALL = Detail(20, 20_000, 2_000)


def pack(per_query, passages, *levels, budget=10**9):
    packed = pack_within(per_query, passages, budget, CATEGORIES, levels or (ALL,))
    return json.loads(packed.json), packed.left_out


@pytest.fixture
def two():
    """Two queries that read the same passage, of which one is answered in it."""
    rows = [
        {"query_id": "q0", "query": "a?", "expected": ["x"], "answer": "x", "em": 1.0, "f1": 1.0, "passage_id": "p1",
         "start": 8, "end": 13, "passage_ids": ["p0", "p1"], "right_ids": ["p1"], "posteriors": [0.25, 0.75]},
        {"query_id": "q1", "query": "b?", "expected": ["y"], "answer": "", "em": 0.0, "f1": np.nan, "passage_id": "",
         "start": -1, "end": -1, "passage_ids": np.array(["p1"]), "right_ids": ["p9", "p0", "p8", "p7"],
         "posteriors": None},
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture
def shelf():
    rows = [("p0", "zero", "zero is here"), ("p1", "one", "the first text"), ("p2", "two", "never read")]
    return pd.DataFrame(rows, columns=["passage_id", "title", "text"])


def test_each_passage_that_is_named_is_packed_once_and_no_other(two, shelf):
    table, left_out = pack(two, shelf)
    assert table["passages"]["ids"] == ["p0", "p1", "p9"] and left_out == ""
    assert table["passages"]["texts"] == ["zero is here", "the first text", ""]
    assert table["passages"]["lengths"] == [0, 0, -1]  # p9 is not in the table of passages
    assert table["read"] == [[[0, 1, 0.25, False], [1, 2, 0.75, True]], [[1, 1, None, False]]]
    assert table["missed"] == [[], [2, 0]]  # at most two


def test_places_count_from_what_the_reader_saw(two, shelf):
    table, _ = pack(two, shelf)
    # "zero is here" begins with its title; "the first text" was read below the line "one".
    assert table["passages"]["begins"] == [0, 4, 0]
    assert table["spans"] == [[1, 8, 13], []]
    assert "one\nthe first text"[8:13] == "first"


def test_places_are_told_in_the_units_of_scripts(two, shelf):
    shelf.loc[1, ["title", "text"]] = ["😀", "😀😀 answer"]
    two.loc[0, ["start", "end"]] = [3, 9]
    table, _ = pack(two, shelf)
    seen = shelf["text"][1]  # begins with its title, so it is read without a title line
    assert table["spans"][0] == [1, len(seen[:3].encode("utf-16-le")) // 2, len(seen[:9].encode("utf-16-le")) // 2]
    assert table["spans"][0] == [1, 5, 11]


@pytest.mark.parametrize(("start", "end"), [(-1, -1), (5, 3), (2, 10_000), (np.nan, 4), (3, 3)])
def test_a_place_that_the_passage_does_not_hold_is_left_out(two, shelf, start, end):
    two = two.astype({"start": float, "end": float})
    two.loc[0, ["start", "end"]] = [start, end]
    assert pack(two, shelf)[0]["spans"][0] == [1]


def test_answer_below_the_cut_is_kept_with_its_surroundings(two, shelf):
    shelf.loc[1, "text"] = "a" * 500 + " the answer " + "b" * 500
    two.loc[0, ["start", "end"]] = [4 + 501, 4 + 511]
    table, left_out = pack(two, shelf, Detail(5, 100, 50))
    span = table["spans"][0]
    assert span[:3] == [1, 505, 515] and span[4] == "the answer"
    assert span[3] == "a" * 119 + " " and span[5] == " " + "b" * 119
    assert table["passages"]["texts"][1] == "a" * 100 and table["passages"]["lengths"][1] == 1_012
    assert "the texts of 1 passages are cut to 100 characters" in left_out


def test_passage_of_the_answer_is_kept_however_far_down_it_was_read(two, shelf):
    two.at[0, "passage_ids"] = ["p0", "p2", "p5", "p1"]
    two.at[0, "posteriors"] = [0.1, 0.2, 0.3, 0.4]
    table, left_out = pack(two, shelf, Detail(1, 100, 50))
    ids = table["passages"]["ids"]
    assert [(ids[place], rank, weight) for place, rank, weight, _ in table["read"][0]] == [
        ("p0", 1, 0.1),
        ("p1", 4, 0.4),
    ]
    assert "2 passages that were read far down" in left_out


def test_long_texts_are_cut_and_counted(two, shelf):
    table, left_out = pack(two.assign(query="word " * 100), shelf, Detail(5, 100, 50))
    assert all(len(text) == 50 and text.endswith("…") for text in table["columns"]["query"])
    assert "2 long questions or answers are cut to 50 characters" in left_out


def test_queries_are_left_out_last_and_evenly(two, shelf):
    many = pd.concat([two.iloc[:1]] * 100, ignore_index=True).assign(query_id=[f"q{n}" for n in range(100)])
    table, left_out = pack(many, shelf, Detail(5, 100, 50, queries=4))
    assert table["columns"]["id"] == ["q0", "q33", "q66", "q99"]
    assert left_out.startswith("To keep this file small, 4 of 100 queries are shown, spread evenly over the test set")


def test_the_most_detailed_level_that_fits_is_taken(full_per_query, passages):
    sizes = [len(pack_within(full_per_query, passages, 0, CATEGORIES, (level,)).json.encode()) for level in LEVELS]
    assert sizes == sorted(sizes, reverse=True)
    for level, size in zip(LEVELS, sizes, strict=True):
        packed = pack_within(full_per_query, passages, size, CATEGORIES)
        assert len(packed.json.encode()) <= size, level
    whole = pack_within(full_per_query, passages, sizes[0], CATEGORIES)
    assert whole.left_out == "" and len(whole.json.encode()) == sizes[0]
    assert pack_within(full_per_query, passages, 1, CATEGORIES).json  # the least, though it is larger


def test_missing_and_endless_numbers_become_null(two, shelf):
    two["score"] = [np.inf, 0.123456]
    two["rank_base"] = pd.array([pd.NA, 3], dtype="Int64")
    table, _ = pack(two, shelf)
    assert table["columns"]["score"] == [None, 0.1235] and table["columns"]["f1"] == [1, None]
    assert table["ranks"] == [{"name": "base", "values": [None, 3]}]


def test_conditions_bring_what_the_table_has_of_them(two, shelf):
    table, _ = pack(two.assign(em_oracle=1.0, f1_oracle=0.5, em_bare=0.0, answer_bare="none"), shelf)
    assert table["conditions"] == [
        {"name": "oracle", "em": [1, 1], "f1": [0.5, 0.5]},
        {"name": "bare", "em": [0, 0], "answer": ["none", "none"]},
    ]


@pytest.mark.parametrize("text", ["</script>", "<!--", "a\u2028b\u2029c", "&lt;", "\x00\x1b\r\n\"\\'", "漢字😀"])
def test_json_for_a_script_element_comes_back_as_it_was(text):
    written = safe_json({text: [text]})
    assert json.loads(written) == {text: [text]}
    assert not set("<>&\u2028\u2029") & set(written)


def test_json_refuses_what_browsers_cannot_read():
    with pytest.raises(ValueError, match="JSON"):
        safe_json([float("nan")])


@pytest.mark.parametrize(("count", "most", "expected"), [(0, 5, []), (1, 5, [0]), (5, 1, [0]), (100, 3, [0, 50, 99])])
def test_places_are_spread_from_first_to_last(count, most, expected):
    assert spread(count, most) == expected
