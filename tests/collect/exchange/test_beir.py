"""A BEIR folder is read and written without loss, and every fault of a file is told with its line."""

import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ragsmith.collect.exchange import beir
from ragsmith.collect.exchange.beir import read_beir, write_beir
from ragsmith.collect.exchange.source_text import stream_lines

CORPUS = [
    {"_id": "d1", "title": "Jane Austen", "text": "She wrote Emma.", "metadata": {"url": "x"}},
    {"_id": "d2", "title": "", "text": "Time\u2028line <script>"},
    {"_id": "d3", "text": "No title."},
    {"_id": "d4", "title": "Only a title", "text": ""},
]
QUERIES = [
    {"_id": "q1", "text": "Who wrote Emma?", "metadata": {}},
    {"_id": "q2", "text": "when?"},
    {"_id": "q3", "text": "Nobody judged this."},
    {"_id": "q4", "text": "Nothing is right."},
]
QRELS = [("q1", "d1", "2"), ("q1", "d3", "0"), ("q2", "d2", "1"), ("q4", "d4", "0"), ("q4", "d1", "-1")]


def lines(records: list[Any]) -> bytes:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


def table(rows: list[tuple[str, ...]], header: str = "query-id\tcorpus-id\tscore") -> bytes:
    return "\n".join([header, *("\t".join(row) for row in rows)]).encode()


def make(
    folder: Path, corpus: list[Any] = CORPUS, queries: list[Any] = QUERIES, qrels: list[tuple[str, ...]] = QRELS
) -> Path:
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    (folder / "corpus.jsonl").write_bytes(lines(corpus))
    (folder / "queries.jsonl").write_bytes(lines(queries))
    (folder / "qrels/test.tsv").write_bytes(table(qrels))
    return folder


def test_passages_queries_and_judgements_are_read_in_our_words(tmp_path):
    read = read_beir(make(tmp_path / "beir"))
    assert list(read.passages.itertuples(index=False, name=None)) == [
        ("d1", "Jane Austen", "She wrote Emma."),
        ("d2", "", "Time\u2028line <script>"),
        ("d3", "", "No title."),
        ("d4", "Only a title", ""),
    ]
    assert list(read.queries.itertuples(index=False, name=None)) == [("q1", "Who wrote Emma?"), ("q2", "when?")]
    assert list(read.qrels.itertuples(index=False, name=None)) == [("q1", "d1", 2), ("q1", "d3", 0), ("q2", "d2", 1)]
    assert read.left_out == {
        "queries_without_judgements": 2,
        "judgements_of_unknown_queries": 0,
        "judgements_of_unknown_passages": 0,
        "passages_not_read": 0,
    }


def test_a_judgement_below_zero_is_of_a_wrong_passage(tmp_path):
    read = read_beir(make(tmp_path / "beir", qrels=[("q1", "d1", "1"), ("q1", "d2", "-2")]))
    assert read.qrels["grade"].tolist() == [1, 0]


def test_judgements_of_what_is_not_there_are_left_out_and_counted(tmp_path):
    qrels = [*QRELS, ("q1", "gone", "1"), ("q3", "gone", "1"), ("other", "d1", "1"), ("other", "gone", "1")]
    read = read_beir(make(tmp_path / "beir", qrels=qrels))
    assert read.queries["query_id"].tolist() == ["q1", "q2"]  # q3's only right passage is gone
    assert "gone" not in set(read.qrels["passage_id"]) and "other" not in set(read.qrels["query_id"])
    assert read.left_out["judgements_of_unknown_queries"] == 2 and read.left_out["judgements_of_unknown_passages"] == 2


def test_gzip_windows_line_ends_byte_order_marks_and_blank_lines_change_nothing(tmp_path):
    plain = read_beir(make(tmp_path / "plain"))
    other = make(tmp_path / "other")
    for path in [*other.glob("*.jsonl"), other / "qrels/test.tsv"]:
        content = b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n \r\n"
        path.unlink()
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
    packed = read_beir(other)
    for name in ("passages", "queries", "qrels"):
        pd.testing.assert_frame_equal(getattr(packed, name), getattr(plain, name))


def test_what_is_written_is_read_back_and_is_as_beir_has_it(tmp_path):
    read = read_beir(make(tmp_path / "beir"))
    write_beir(tmp_path / "out", read.passages, read.queries, {"test": read.qrels, "dev": read.qrels.iloc[:1]})
    again = read_beir(tmp_path / "out")
    for name in ("passages", "queries", "qrels"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(read, name))
    first = json.loads((tmp_path / "out/corpus.jsonl").read_text("utf-8").split("\n")[0])
    assert first == {"_id": "d1", "title": "Jane Austen", "text": "She wrote Emma."}
    assert (tmp_path / "out/qrels/dev.tsv").read_text() == "query-id\tcorpus-id\tscore\nq1\td1\t2\n"
    assert read_beir(tmp_path / "out", "dev").queries["query_id"].tolist() == ["q1"]


def test_nothing_of_the_users_is_overwritten_and_what_cannot_be_read_back_is_not_written(tmp_path):
    read = read_beir(make(tmp_path / "beir"))
    with pytest.raises(FileExistsError):
        write_beir(tmp_path / "beir", read.passages, read.queries, {"test": read.qrels})
    for change, message in [
        ({"passages": read.passages.iloc[:0]}, "there is no passage"),
        ({"passages": read.passages.assign(passage_id="d1")}, "passage id 'd1' is there twice"),
        ({"queries": read.queries.assign(query_id=["q\t1", ""])}, "2 query ids are empty or have a TAB"),
        ({"queries": read.queries.iloc[:1]}, "1 judgements are of a query_id that is not written: 'q2'"),
        ({"passages": read.passages.iloc[:2]}, "of a passage_id that is not written: 'd3'"),
        ({"qrels": {"../test": read.qrels}}, "'../test' is no name of a split"),
    ]:
        given = {"passages": read.passages, "queries": read.queries, "qrels": {"test": read.qrels}, **change}
        with pytest.raises(ValueError, match=message):
            write_beir(tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


def test_a_limit_keeps_judged_passages_and_the_same_sample_in_any_order(tmp_path):
    corpus = [*CORPUS, *({"_id": f"x{number}", "text": f"text {number}"} for number in range(100))]
    kept = read_beir(make(tmp_path / "a", corpus), limit=20, seed=1)
    turned = read_beir(make(tmp_path / "b", corpus[::-1]), limit=20, seed=1)
    assert len(kept.passages) == 20 and kept.left_out["passages_not_read"] == 84
    # Those of q4, which has no right passage, are judged as well.
    assert set(kept.passages["passage_id"]) >= {"d1", "d2", "d3", "d4"}
    assert set(turned.passages["passage_id"]) == set(kept.passages["passage_id"])
    order = {record["_id"]: place for place, record in enumerate(corpus)}
    assert kept.passages["passage_id"].map(order).is_monotonic_increasing
    assert set(read_beir(tmp_path / "a", limit=20, seed=2).passages["passage_id"]) != set(kept.passages["passage_id"])
    assert read_beir(tmp_path / "a", limit=1).passages["passage_id"].tolist() == ["d1", "d2", "d3", "d4"]
    assert len(read_beir(tmp_path / "a", limit=1000).passages) == 104


def test_every_passage_has_the_same_chance_of_the_sample(tmp_path):
    corpus = [*CORPUS, *({"_id": f"x{number}", "text": ""} for number in range(50))]
    folder = make(tmp_path / "a", corpus)
    counts = pd.Series(0, index=[f"x{number}" for number in range(50)])
    for seed in range(100):
        sampled = set(read_beir(folder, limit=14, seed=seed).passages["passage_id"]) - {"d1", "d2", "d3", "d4"}
        counts[list(sampled)] += 1
    assert counts.sum() == 1000 and counts.min() >= 6 and counts.max() <= 37  # binomial(100, .2): 4.25 sd at most


def test_memory_is_that_of_what_is_kept(tmp_path):
    folder = make(tmp_path / "a")
    with (folder / "corpus.jsonl").open("ab") as file:
        for number in range(3000):
            file.write(lines([{"_id": f"x{number}", "text": f"{number} " * 2000}]))
    assert (folder / "corpus.jsonl").stat().st_size > 25_000_000
    tracemalloc.start()
    read_beir(folder, limit=50)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


@pytest.mark.parametrize(
    ("name", "faulty", "told"),
    [
        (
            "corpus.jsonl",
            [["a"], {"_id": 7, "text": "x"}, {"_id": "a\tb", "text": "x"}, {"_id": "e"}, {"_id": "d1", "text": "x"}],
            {
                5: "a record is ['a'], not an object",
                6: "_id is 7, not a text without TAB",
                7: r"_id is 'a\tb', not a text without TAB",
                8: "text is None, not a text",
                9: "_id 'd1' is that of line 1 too",
            },
        ),
        (
            "queries.jsonl",
            [{"_id": "", "text": "x"}, {"_id": "q\0", "text": "x"}, {"_id": "q9", "text": "a\ud800"}],
            {5: "_id is ''", 6: "_id is 'q\\x00'", 7: r"text is 'a\ud800', not a text that can be stored"},
        ),
    ],
)
def test_all_faults_of_records_are_listed_with_their_lines(tmp_path, name, faulty, told):
    folder = make(tmp_path / "beir")
    with (folder / name).open("ab") as file:
        file.writelines(json.dumps(record).encode() + b"\n" for record in faulty)
        file.write(b"{\n" + b"[" * 100_000)
    with pytest.raises(ValueError, match=f"has {len(faulty) + 2} faults") as caught:
        read_beir(folder)
    told = told | {5 + len(faulty): "not JSON", 6 + len(faulty): "not JSON"}
    for number, part in told.items():
        assert any(f"{name}:{number}: " in line and part in line for line in str(caught.value).split("\n")), number


def test_all_faults_of_judgements_are_listed_with_their_lines(tmp_path):
    faulty = [
        ("q1", "d1"),
        ("", "d1", "1"),
        ("q1", "d2", "1.5"),
        ("q1", "d1", "1"),
        ("q1", "d1", "2"),
        ("q1", "d\0", "1"),
    ]
    with pytest.raises(ValueError, match="has 5 faults") as caught:
        read_beir(make(tmp_path / "beir", qrels=[*QRELS, *faulty]))
    for number, part in {
        7: "has 2 fields, not 3",
        8: "nothing stands in query-id or corpus-id",
        9: "score is '1.5', not a whole number",
        10: "another line judges 'd1' otherwise for 'q1'",  # line 11 says 2, as line 2 did
        12: "or it is binary",
    }.items():
        assert any(f"test.tsv:{number}: " in line and part in line for line in str(caught.value).split("\n")), number


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("qrels/test.tsv", b"", "test.tsv:1: needs the header query-id corpus-id score"),
        ("qrels/test.tsv", b"q1 0 d1 1\n", "needs the header"),
        ("qrels/test.tsv", table([]), "no query of the split 'test' has a passage of score above 0"),
        ("queries.jsonl", b"", "no query of the split 'test' has a passage of score above 0"),
        ("corpus.jsonl", b" \n", "corpus.jsonl has no passage"),
        ("corpus.jsonl", lines(CORPUS) + b"\xff\n", r"corpus\.jsonl:5: not UTF-8 text"),
        ("corpus.jsonl", gzip.compress(lines(CORPUS))[:-12], "corpus.jsonl: not a whole gzip file"),
    ],
)
def test_a_file_that_is_none_is_refused_by_name(tmp_path, name, content, message):
    folder = make(tmp_path / "beir")
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_beir(folder)


def test_a_folder_that_is_none_is_told_what_it_needs(tmp_path):
    with pytest.raises(NotADirectoryError, match=r"has corpus\.jsonl, queries\.jsonl and qrels/"):
        read_beir(tmp_path / "none")
    folder = make(tmp_path / "beir")
    with pytest.raises(ValueError, match=r"train\.tsv is not there, nor is .*Splits: test\."):
        read_beir(folder, "train")
    for split in ("../qrels/test", "", "a/b", "x" * 1000):
        with pytest.raises(ValueError, match="no name of a split"):
            read_beir(folder, split)
    (folder / "queries.jsonl").unlink()
    with pytest.raises(ValueError, match=r"queries\.jsonl is not there"):
        read_beir(folder)


def test_a_link_that_leads_elsewhere_is_not_followed(tmp_path):
    folder = make(tmp_path / "beir")
    (folder / "corpus.jsonl").rename(tmp_path / "secret")
    (folder / "corpus.jsonl").symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match="link that leaves the folder"):
        read_beir(folder)


def test_a_small_file_that_unpacks_to_a_huge_one_is_refused(tmp_path):
    folder = make(tmp_path / "beir")
    (folder / "corpus.jsonl").write_bytes(gzip.compress(b" " * 5_000_000))
    with pytest.raises(ValueError, match="more than 100,000 bytes"):
        read_beir(folder, max_bytes=100_000)


def test_more_records_than_ids_can_be_remembered_are_refused(tmp_path, monkeypatch):
    folder = make(tmp_path / "beir")
    monkeypatch.setattr(beir, "MAX_RECORDS", 4)
    read_beir(folder)
    with (folder / "corpus.jsonl").open("ab") as file:
        file.write(lines([{"_id": "d5", "text": "x"}]))
    with pytest.raises(ValueError, match=r"corpus\.jsonl: holds more than 4 records"):
        read_beir(folder)


def test_streamed_lines_are_those_of_the_whole_text(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\r\n two\x0cthree\xe2\x80\xa8\nlast")
    assert list(stream_lines(path)) == [(1, "one"), (3, " two\x0cthree\u2028"), (4, "last")]
    path.write_bytes(b"")
    assert list(stream_lines(path)) == []
