import json
import os
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ragsmith.evaluate import saved_version
from ragsmith.evaluate.history import keep_version
from ragsmith.evaluate.saved_version import read_version


@pytest.fixture
def folder(tmp_path, publish_evaluation):
    scores = {"bleu": [0.25, 1.0], "ndcg@10_my_system": [0.5, 1.0], "rank_my_system": pd.array([3, None], "Int64")}
    return publish_evaluation(tmp_path / "there", [0.0, 1.0], run={"seed": 3}, slice_word=["what", "who"], **scores)


@pytest.fixture
def foreign(folder, tmp_path):
    """The same files without our metadata, as someone would send them."""
    copy = tmp_path / "foreign"
    copy.mkdir()
    for name in ("metrics.json", "per_query.parquet"):
        shutil.copyfile(folder / name, copy / name)
    return copy


def rewrite(folder, **columns):
    table = pd.read_parquet(folder / "per_query.parquet").assign(**columns)
    table.to_parquet(folder / "per_query.parquet", index=False)


def test_version_has_its_metrics_and_the_columns_that_are_compared(folder):
    version = read_version(folder, "mine")
    assert version.name == "mine" and read_version(folder).name == "there"
    assert version.metrics["run"] == {"seed": 3}
    columns = ["query_id", "query", "answer", "em", "f1", "bleu", "ndcg@10_my_system", "rank_my_system"]
    assert list(version.per_query) == columns
    assert version.per_query["query"].tolist() == ["What is number 0?", "What is number 1?"]
    assert version.per_query["answer"].tolist() == ["", "answer 1"]
    assert version.per_query["bleu"].tolist() == [0.25, 1.0]
    assert version.per_query["rank_my_system"].isna().tolist() == [False, True]
    assert version.per_query["rank_my_system"][0] == 3


def test_kept_version_and_foreign_copy_read_as_the_outputs_do(folder, foreign, tmp_path):
    name = keep_version(folder, tmp_path / "history")
    for other in (tmp_path / "history" / name, foreign):
        pd.testing.assert_frame_equal(read_version(other).per_query, read_version(folder).per_query)
        assert read_version(other).metrics == read_version(folder).metrics


def test_any_text_survives(foreign):
    texts = ["<script>alert(1)</script>", "\u202eright to left\x1b[2J\0"]
    rewrite(foreign, query=texts, answer=["", "漢字" * 50_000])
    read = read_version(foreign).per_query
    assert read["query"].tolist() == texts and read["answer"][1] == "漢字" * 50_000


@pytest.mark.parametrize(("rows", "packed"), [(20_000, True), (200, False)])
def test_many_rows_of_one_long_text_take_the_memory_of_one(foreign, rows, packed):
    text = "x" * 1_000_000  # 20 GB if each of 20,000 rows had its own
    same = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, "int32")), pa.array([text]))
    zeros, ids = pa.array(np.zeros(rows)), pa.array([str(row) for row in range(rows)])
    texts = same if packed else same.cast(pa.large_string())
    table = pa.table({"query_id": ids, "query": texts, "answer": texts, "em": zeros, "f1": zeros})
    pq.write_table(table, foreign / "per_query.parquet", store_schema=not packed)
    assert (foreign / "per_query.parquet").stat().st_size < 1_000_000
    read = read_version(foreign).per_query
    assert len(read) == rows and all(value is read["query"][0] for value in read["query"])


@pytest.mark.parametrize("file", ["metrics.json", "per_query.parquet"])
@pytest.mark.parametrize("harm", ["cut", "changed"])
def test_file_that_is_not_as_it_was_published_is_refused_by_name(folder, file, harm):
    content = bytearray((folder / file).read_bytes())
    if harm == "cut":
        del content[-5:]
    else:
        content[len(content) // 2] ^= 1
    (folder / file).write_bytes(content)
    with pytest.raises(ValueError, match=rf"there/\.?{file}\S* was altered or cut short"):
        read_version(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no JSON"),
        (b"{", "is no JSON"),
        (b"\xff{}", "is no JSON"),
        (b"[" * 200_000, "is no JSON"),
        (b'{"run": {"a": NaN}}', "NaN is no number of JSON"),
        (b'{"run": {"a": ' + b"1" * 10_000 + b"}}", "is no JSON"),
        (b'{"run": ' + b'{"a": ' * 300 + b"1" + b"}" * 301, "nested more than 50 levels deep"),
        (b"[]", "is not the metrics.json of an evaluation"),
        (b'{"run": 3}', "is not the metrics.json of an evaluation"),
    ],
)
def test_metrics_that_are_none_are_refused_by_name(foreign, content, message):
    (foreign / "metrics.json").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_version(foreign)
    assert str(foreign / "metrics.json") in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"query_id": ["q", "q"]}, "more than one row for query 'q'"),
        ({"query": [None, "x"]}, "column 'query' has rows without a text"),
        ({"query": [1, 2]}, "column 'query' is of type int64, not of texts"),
        ({"em": ["0", "1"]}, "column 'em' is of type .*string, not of numbers"),
        ({"em": [0.0, 1.5]}, "'em' holds something that is no score from 0 to 1"),
        ({"f1": [0.0, np.nan]}, "'f1' holds something that is no score from 0 to 1"),
        ({"ndcg@10_my_system": [np.inf, 0]}, "'ndcg@10_my_system' holds something that is no score"),
        ({"em": [np.nan, 0]}, "'em' holds something that is no score"),
        ({"rank_my_system": [0, 1]}, "'rank_my_system' holds something that is no rank"),
        ({"rank_my_system": [1.5, 1]}, "'rank_my_system' holds something that is no rank"),
        ({"rank_my_system": [1e30, 1]}, "'rank_my_system' holds something that is no rank"),
        ({"rank_my_system": [[1], [2]]}, "'rank_my_system' is of type list.*, not of numbers"),
    ],
)
def test_table_with_other_types_or_values_is_refused_by_file_and_column(foreign, columns, message):
    rewrite(foreign, **columns)
    with pytest.raises(ValueError, match=message) as caught:
        read_version(foreign)
    assert str(foreign / "per_query.parquet") in str(caught.value)


def test_table_of_something_else_and_no_table_are_refused(foreign):
    path = foreign / "per_query.parquet"
    pd.DataFrame({"a": [1]}).to_parquet(path)
    with pytest.raises(ValueError, match="lacks column 'query_id', 'query', 'answer' and 2 more"):
        read_version(foreign)
    for content in (b"", b"PAR1", b"PAR1" + b"\xff" * 100 + b"PAR1", os.urandom(1000)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"per_query\.parquet is no whole Parquet file"):
            read_version(foreign)
    path.unlink()
    with pytest.raises(ValueError, match=r"per_query\.parquet is not there"):
        read_version(foreign)


def test_every_damaged_byte_of_a_foreign_table_is_an_error_or_read_as_a_table(foreign):
    path = foreign / "per_query.parquet"
    content = path.read_bytes()
    for place in range(0, len(content), 41):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        try:
            read = read_version(foreign)
        except ValueError as error:
            assert "per_query.parquet" in str(error)
        else:
            assert set(saved_version.REQUIRED) <= set(read.per_query)


def test_metrics_of_fifty_levels_are_read(foreign):
    (foreign / "metrics.json").write_bytes(b'{"run": ' + b'{"a": ' * 48 + b"1" + b"}" * 49)
    assert read_version(foreign).metrics["run"]["a"]
    (foreign / "metrics.json").write_bytes(b'{"run": ' + b'{"a": ' * 50 + b"1" + b"}" * 51)
    with pytest.raises(ValueError, match="nested more than 50"):
        read_version(foreign)


def test_files_above_the_limits_are_refused_before_they_are_read(foreign, monkeypatch):
    for name, most, message in [
        ("MOST_JSON_BYTES", 10, r"metrics\.json has .* bytes; at most 10"),
        ("MOST_TABLE_BYTES", 100, r"per_query\.parquet has .* bytes; at most 100"),
        ("MOST_QUERIES", 1, r"per_query\.parquet has 2 rows .*; at most 1 rows"),
        ("MOST_COLUMNS", 3, r"per_query\.parquet has 10 columns; at most 3"),
    ]:
        with monkeypatch.context() as patch, pytest.raises(ValueError, match=message):
            patch.setattr(saved_version, name, most)
            read_version(foreign)


def test_a_small_file_that_unpacks_to_a_huge_table_is_refused(foreign, monkeypatch):
    table = pd.read_parquet(foreign / "per_query.parquet")
    table["answer"] = ["a" * 5_000_000, "b" * 5_000_000]
    table.to_parquet(foreign / "per_query.parquet", compression="zstd")
    assert (foreign / "per_query.parquet").stat().st_size < 100_000
    monkeypatch.setattr(saved_version, "MOST_TABLE_BYTES", 1_000_000)
    with pytest.raises(ValueError, match="bytes unpacked; at most"):
        read_version(foreign)


def test_metadata_that_names_other_files_reads_none_of_them(foreign):
    listing = {"../secret": {"sha256": "0", "size": 1}}
    values = {"content_hash": "", "size": 1, "files": listing, "created_at": "", "python": "", "ragsmith": ""}
    (foreign / "_artefact.json").write_text(json.dumps({**values, "provenance": None, "format_version": 1}))
    with pytest.raises(ValueError, match=r"secret was altered"):
        read_version(foreign)


def test_a_question_that_nobody_judged_has_no_score_of_its_ranking(foreign):
    rewrite(foreign, **{"ndcg@10_my_system": [np.nan, 0.5]})
    assert read_version(foreign).per_query["ndcg@10_my_system"].tolist()[1] == 0.5
