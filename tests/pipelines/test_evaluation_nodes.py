import pandas as pd
import pytest
from tiny_generators import saved_reader

from ragsmith.pipelines.evaluation.nodes import read_answers
from ragsmith.pipelines.evaluation.params import EvaluationParams
from ragsmith.pipelines.params import ComputeParams

PASSAGES = pd.DataFrame(
    [("p1", "shutil", "shutil.rmtree(path)"), ("p2", "math", "math.sqrt(x)")], columns=["passage_id", "title", "text"]
)
QUERIES = pd.DataFrame(
    [("q1", "delete a tree", "test"), ("q2", "square root", "dev"), ("q3", "take the root", "test")],
    columns=["query_id", "text", "split"],
)
QRELS = pd.DataFrame([("q1", "p1", 1), ("q2", "p2", 1), ("q3", "p2", 1)], columns=["query_id", "passage_id", "grade"])
ANSWERS = pd.DataFrame({"query_id": ["q1", "q2", "q3"], "answers": [["shutil.rmtree"], ["math.sqrt"], ["math.sqrt"]]})


@pytest.mark.parametrize("kind", ["rag_sequence", "fid"])
def test_any_reader_answers_the_test_and_the_dev_questions(kind, tmp_path):
    run = pd.DataFrame(
        [
            (query, passage, rank, 1 / rank, 0.5)
            for query in ("q1", "q2", "q3")
            for rank, passage in ((1, "p1"), (2, "p2"))
        ],
        columns=["query_id", "passage_id", "rank", "score", "cosine"],
    )
    of_test = run[run["query_id"] != "q2"]
    runs = pd.concat([of_test.assign(system=name) for name in ("tuned", "base")])
    predictions, sweep, posteriors = read_answers(
        saved_reader(kind, tmp_path),
        QUERIES,
        QRELS,
        ANSWERS,
        PASSAGES,
        runs,
        of_test[(of_test["query_id"] == "q1") == (of_test["passage_id"] == "p1")].assign(rank=1),
        run[run["query_id"] == "q2"],
        {"mode": "dense"},
        EvaluationParams(passages=2, reader_ks=[1, 2]),
        ComputeParams(device="cpu", precision="fp32"),
    )
    assert predictions[["condition", "query_id"]].values.tolist() == [
        ["retrieved", "q1"],
        ["retrieved", "q3"],
        ["oracle", "q1"],
        ["oracle", "q3"],
        ["base_retrieved", "q1"],
        ["base_retrieved", "q3"],
        ["dev", "q2"],
    ]
    assert predictions["score"].between(0, 1).all() and (predictions["answer"] != "").any()
    assert sorted(sweep["k"]) == [1, 1, 2, 2] and posteriors["posterior"].sum() == pytest.approx(2, rel=1e-5)
    with_two = sweep[sweep["k"] == 2].set_index("query_id")["answer"]
    assert (
        with_two.to_dict()
        == predictions[predictions["condition"] == "retrieved"].set_index("query_id")["answer"].to_dict()
    )
