import pandas as pd
import pytest

from ragsmith.evaluate.slice_columns import DIMENSIONS, slice_columns

PASSAGES = pd.DataFrame(
    [
        ("p1", "d1", "shutil", "Copy a file to another directory."),
        ("p2", "d2", "os", "Rename a file."),
        ("p3", "d2", "time", "Wait for some seconds."),
    ],
    columns=["passage_id", "document_id", "title", "text"],
)
DOCUMENTS = pd.DataFrame({"document_id": ["d1", "d2"], "source": ["manual", "wiki"]})


def columns_of(question, answers=("x",), judged=(("p1", 1),), **tables):
    queries = pd.DataFrame({"query_id": ["q"], "text": [question]})
    given = pd.DataFrame({"query_id": ["q"], "answers": [list(answers)]})
    qrels = pd.DataFrame([("q", *pair) for pair in judged], columns=["query_id", "passage_id", "grade"])
    tables = {"passages": PASSAGES, "documents": DOCUMENTS} | tables
    (row,) = slice_columns(queries, given, qrels, **tables).to_dict("records")
    return {name.removeprefix("slice_"): value for name, value in row.items()}


def test_a_question_is_cut_in_every_dimension_as_by_hand():
    # content words: copy, file, folder; the first two stand in p1, "file" in two passages, "folder" in none
    assert columns_of("How do I copy a file to a folder?", ["shutil.copy", "copy"]) == {
        "query_id": "q", "question_word": "how", "answer_type": "identifier or code", "answer_length": "1 token",
        "source": "manual", "overlap": "34–66 %", "rarest_word": "in no passage",
    }  # fmt: skip
    assert list(columns_of("?")) == ["query_id", *DIMENSIONS]


@pytest.mark.parametrize(
    ("question", "judged", "expected"),
    [
        ("copy file", [("p1", 1)], "100 %"),
        ("rename zebra", [("p1", 1)], "0 %"),
        ("copy zebra lion", [("p1", 1)], "1–33 %"),
        ("copy file directory zebra", [("p1", 1)], "67–99 %"),
        ("rename file", [("p1", 1), ("p2", 1)], "100 %"),  # the right passage that holds most
        ("rename file", [("p1", 1), ("p2", 0)], "34–66 %"),  # p2 was judged wrong
        ("shutil", [("p1", 1)], "100 %"),  # the title is read too
        ("copy", [("gone", 1)], "other"),
        ("what is it", [("p1", 1)], "other"),
    ],
)
def test_overlap_is_the_share_of_content_words_in_a_right_passage(question, judged, expected):
    assert columns_of(question, judged=judged)["overlap"] == expected


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, "in no passage"), (2, "in 1–2"), (3, "in 3–10"), (11, "in 11–100"), (101, "in over 100")],
)
def test_the_rarest_word_is_counted_in_passages(count, expected):
    texts = ["zebra zebra and file"] * count + ["file"] * 200
    passages = pd.DataFrame({"passage_id": [f"p{n}" for n in range(len(texts))], "text": texts})
    columns = columns_of("Zebra file?", passages=passages.assign(document_id="d1", title=""))
    assert columns["rarest_word"] == expected


def test_the_source_is_that_of_the_best_right_passage():
    assert columns_of("?", judged=[("p1", 1), ("p2", 2)])["source"] == "wiki"
    assert columns_of("?", judged=[("p3", 1), ("p1", 1)])["source"] == "wiki"
    assert columns_of("?", judged=[("gone", 1), ("p1", 1)])["source"] == "manual"
    assert columns_of("?", judged=[("p1", 0)])["source"] == "other"


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (["the file"], "1 token"),  # as exact match counts: no article
        (["", "three whole tokens"], "2–3 tokens"),
        (["four tokens are here"], "4–10 tokens"),
        (["word " * 11], "over 10 tokens"),
        (["文件"], "other"),
        ([], "other"),
    ],
)
def test_length_is_that_of_the_first_answer_that_holds_a_text(answers, expected):
    assert columns_of("?", answers)["answer_length"] == expected


def test_nothing_breaks_on_what_people_put_into_tables(tmp_path):
    texts = ["", None, "文件在哪里", "<script>alert(1)</script>", "\u202eabc\x00", "a" * 100_000, float("nan"), "🙂"]
    ids = [f"q{n}" for n in range(len(texts))]
    queries = pd.DataFrame({"query_id": ids, "text": pd.Series(texts, dtype=object)})
    answers = pd.DataFrame({"query_id": ids[:4], "answers": [["a"], [], None, ["<b>", None]]})
    qrels = pd.DataFrame({"query_id": [*ids[:5], "unknown"], "passage_id": "p1", "grade": 1})
    passages = pd.concat([PASSAGES, pd.DataFrame([("p4", None, None, None)], columns=PASSAGES.columns)])
    columns = slice_columns(queries, answers, qrels, passages, DOCUMENTS)
    assert columns["query_id"].tolist() == ids and not columns.isna().any().any()
    for name, values in DIMENSIONS.items():
        assert not values or set(columns[f"slice_{name}"]) <= set(values)
    columns.to_parquet(tmp_path / "columns.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "columns.parquet"), columns)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"passages": pd.concat([PASSAGES, PASSAGES])}, "Table passages repeats passage_id 'p1', 'p2'"),
        ({"documents": pd.concat([DOCUMENTS, DOCUMENTS])}, "Table documents repeats document_id 'd1'"),
        ({"passages": PASSAGES.drop(columns="title")}, "Table passages lacks column 'title'"),
    ],
)
def test_faulty_tables_are_refused(tables, message):
    with pytest.raises(ValueError, match=message):
        columns_of("?", **tables)
