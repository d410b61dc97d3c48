"""What is written for TREC's tools gives them our figures, and what they write is read as they judge it."""

import numpy as np
import pandas as pd
import pytest

from ragsmith.evaluate.retrieval import score_matrix
from ragsmith.evaluate.trec import read_qrels, read_run, write_trec

METRICS = ["ndcg@3", "ndcg@10", "recall@5", "precision@5", "map@10", "hit@1"]


@pytest.fixture
def runs() -> pd.DataFrame:
    """Two systems on thirty queries; scores tie within the run, and many tie when held as 32-bit floats."""
    rng = np.random.default_rng(4)
    rows = []
    for system in ("base", "tuned"):
        for query in range(30):
            order = rng.permutation(25)[: rng.integers(1, 20)]
            for rank, passage in enumerate(order, start=1):
                score = 0.5 if system == "base" else 1 - rank * 1e-12
                rows.append((system, f"q{query}", f"p{passage}", score, rank))
    return pd.DataFrame(rows, columns=["system", "query_id", "passage_id", "score", "rank"])


@pytest.fixture
def qrels() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    rows = [
        (f"q{query}", f"p{passage}", int(grade))
        for query in range(30)
        for passage, grade in zip(rng.permutation(25)[:4], [3, *rng.integers(0, 3, 3)], strict=True)
    ]
    return pd.DataFrame(rows, columns=["query_id", "passage_id", "grade"])


def test_written_lines_are_those_of_the_format(tmp_path):
    runs = pd.DataFrame(
        {"system": "bm25", "query_id": "q", "passage_id": ["b", "a"], "score": [0.25, 0.5], "rank": [2, 1]}
    )
    qrels = pd.DataFrame({"query_id": ["q"], "passage_id": ["a"], "grade": [2]})
    folder = write_trec(runs, qrels, tmp_path / "new" / "trec")
    assert sorted(path.name for path in folder.iterdir()) == ["bm25.run", "qrels.txt"]
    assert (folder / "bm25.run").read_text("utf-8") == "q Q0 a 1 -1 bm25\nq Q0 b 2 -2 bm25\n"
    assert (folder / "qrels.txt").read_text("utf-8") == "q 0 a 2\n"


def test_pytrec_eval_gets_our_figures_from_the_written_files(runs, qrels, tmp_path):
    import pytrec_eval

    folder = write_trec(runs, qrels, tmp_path / "trec")
    names = ["ndcg_cut_3", "ndcg_cut_10", "recall_5", "P_5", "map_cut_10", "success_1"]
    with (folder / "qrels.txt").open() as file:
        evaluator = pytrec_eval.RelevanceEvaluator(pytrec_eval.parse_qrel(file), names)
    for system, run in runs.groupby("system"):
        ours = score_matrix(run, qrels, METRICS)
        with (folder / f"{system}.run").open() as file:
            theirs = evaluator.evaluate(pytrec_eval.parse_run(file))
        assert len(theirs) == len(ours) == 30
        for query_id, values in theirs.items():
            assert ours.loc[query_id].tolist() == [values[name] for name in names]


def test_ir_measures_gets_our_figures_from_the_written_files(runs, qrels, tmp_path):
    import ir_measures
    from ir_measures import AP, P, R, Success, nDCG

    folder = write_trec(runs, qrels, tmp_path / "trec")
    measures = dict(zip([nDCG @ 3, nDCG @ 10, R @ 5, P @ 5, AP @ 10, Success @ 1], METRICS, strict=True))
    judged = list(ir_measures.read_trec_qrels(str(folder / "qrels.txt")))
    ours = score_matrix(runs[runs["system"] == "tuned"], qrels, METRICS)
    found = list(ir_measures.iter_calc(measures, judged, ir_measures.read_trec_run(str(folder / "tuned.run"))))
    assert len(found) == ours.size
    for result in found:
        assert ours.loc[result.query_id, measures[result.measure]] == pytest.approx(result.value, abs=1e-12)


def test_what_was_written_is_read_back(runs, qrels, tmp_path):
    folder = write_trec(runs, qrels, tmp_path / "trec")
    pd.testing.assert_frame_equal(read_qrels(folder / "qrels.txt"), qrels)
    base = runs[runs["system"] == "base"].drop(columns="score").reset_index(drop=True)
    pd.testing.assert_frame_equal(read_run(folder / "base.run").drop(columns="score"), base)


def test_a_run_of_another_tool_is_read_in_the_order_that_trec_eval_judges(tmp_path):
    import pytrec_eval

    rng = np.random.default_rng(6)
    passages = [f"p{n}" for n in range(40)] + ["é", "東", "Z", "a"]
    lines = []
    for query in range(40):
        # Few distinct scores, some of which only a 64-bit float tells apart; the ranks are nonsense.
        scores = rng.integers(0, 4, len(passages)) + rng.integers(0, 3, len(passages)) * 1e-10
        lines += [f"q{query}\tQ0 {p}  7 {score!r} other" for p, score in zip(passages, scores.tolist(), strict=True)]
    path = tmp_path / "other.run"
    path.write_text("\ufeff" + "\r\n".join(lines) + "\r\n\r\n", encoding="utf-8")
    run = read_run(path)
    assert run["system"].unique().tolist() == ["other"]
    # The rank of each passage by trec_eval: the reciprocal rank, were it the only right one.
    for passage in ("p3", "p17", "é", "東", "a"):
        right = {f"q{query}": {passage: 1} for query in range(40)}
        scores = {q: dict(zip(t["passage_id"], t["score"], strict=True)) for q, t in run.groupby("query_id")}
        theirs = pytrec_eval.RelevanceEvaluator(right, {"recip_rank"}).evaluate(scores)
        ours = run[run["passage_id"] == passage].set_index("query_id")["rank"]
        assert {q: 1 / rank for q, rank in ours.items()} == {q: value["recip_rank"] for q, value in theirs.items()}


def test_ids_that_are_no_ascii_survive(tmp_path):
    ids = ["東京", "<script>", "\u202eabc", "x" * 10_000, '"quoted"', "#1"]
    runs = pd.DataFrame(
        {"system": "s", "query_id": "q", "passage_id": ids, "score": 0.0, "rank": range(1, len(ids) + 1)}
    )
    qrels = pd.DataFrame({"query_id": "q", "passage_id": ids, "grade": 1})
    folder = write_trec(runs, qrels, tmp_path / "trec")
    assert read_run(folder / "s.run")["passage_id"].tolist() == read_qrels(folder / "qrels.txt")["passage_id"].tolist()
    assert read_run(folder / "s.run")["passage_id"].tolist() == ids


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"passage_id": "two words"}, "passage_id that is empty or holds white space: 'two words'"),
        ({"passage_id": "no\u00a0break"}, "passage_id that is empty or holds white space"),
        ({"query_id": ""}, "query_id that is empty or holds white space: ''"),
        ({"query_id": "a\nb"}, r"query_id that is empty or holds white space: 'a\\nb'"),
        ({"query_id": None}, "query_id that is empty or holds white space"),
        ({"system": "../outside"}, "cannot bear the name of system '../outside'"),
        ({"system": "a b"}, "cannot bear the name of system 'a b'"),
        ({"system": ".hidden"}, "cannot bear the name of system '.hidden'"),
        ({"rank": 2}, "s: run has ranks other than 1, 2, 3 … for query 'q'"),
        ({"score": float("nan")}, "s: run holds 1 NaN scores"),
    ],
)
def test_what_the_format_cannot_hold_is_refused_before_anything_is_written(change, message, tmp_path):
    runs = pd.DataFrame([{"system": "s", "query_id": "q", "passage_id": "p", "score": 1.0, "rank": 1} | change])
    qrels = pd.DataFrame({"query_id": ["q"], "passage_id": ["p"], "grade": [1]})
    with pytest.raises(ValueError, match=message):
        write_trec(runs, qrels, tmp_path / "trec")
    assert list(tmp_path.iterdir()) == []


def test_no_runs_and_a_folder_in_use_are_refused(runs, qrels, tmp_path):
    with pytest.raises(ValueError, match="runs are empty"):
        write_trec(runs.iloc[:0], qrels, tmp_path / "trec")
    (tmp_path / "older.run").write_text("", "utf-8")
    with pytest.raises(FileExistsError, match=r"holds 'older.run' already"):
        write_trec(runs, qrels, tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q Q0 p 1 0.5 s\nq Q0 p2 2 0.4\n", r"(?s)bad.run.*line 2: 5 columns in place of 6 \(query_id Q0 passage_id"),
        ("q Q0 p 1 high s\n", "line 1: the score 'high' is no finite number"),
        ("\nq Q0 p 1 nan s\n", "line 2: the score 'nan' is no finite number"),
        ("q Q0 p 1 2 s\nq Q0 p 2 1 s\n", "line 2: query 'q' has passage 'p' in line 1 already"),
        ("q Q0 p 1 2 s\nq Q0 r 2 1 t\n", "line 2: the tag 't' differs from 's'"),
        ("\n \n", "bad.run: it holds no line"),
        ("x\n" * 20, "and 15 more"),
    ],
)
def test_a_faulty_run_is_refused_by_file_and_line(text, message, tmp_path):
    path = tmp_path / "bad.run"
    path.write_text(text, "utf-8")
    with pytest.raises(ValueError, match=message):
        read_run(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q 0 p 1\nq 0 p\n", r"(?s)bad.txt.*line 2: 3 columns in place of 4 \(query_id 0 passage_id grade\)"),
        ("q 0 p 1.5\n", "line 1: the grade '1.5' is no whole number"),
        ("q 0 p 1\nq 0 p 0\n", "line 2: query 'q' has passage 'p' in line 1 already"),
        ("", "bad.txt: it holds no line"),
    ],
)
def test_faulty_qrels_are_refused_by_file_and_line(text, message, tmp_path):
    path = tmp_path / "bad.txt"
    path.write_text(text, "utf-8")
    with pytest.raises(ValueError, match=message):
        read_qrels(path)


@pytest.mark.parametrize("grade", [0.5, None])
def test_grades_that_are_no_whole_numbers_are_not_written(runs, qrels, tmp_path, grade):
    with pytest.raises(ValueError, match="120 grades that are no whole numbers"):
        write_trec(runs, qrels.assign(grade=grade), tmp_path / "trec")


def test_files_that_are_not_utf_8_are_refused(tmp_path):
    path = tmp_path / "latin.run"
    path.write_bytes("q Q0 caf\xe9 1 1 s\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin.run is not UTF-8"):
        read_run(path)


def test_negative_grades_of_a_track_are_kept(tmp_path):
    path = tmp_path / "qrels.txt"
    path.write_text("q 0 p -2\nq 0 r 3\n", "utf-8")
    assert read_qrels(path)["grade"].tolist() == [-2, 3]
