import pandas as pd
import pytest

from ragsmith.compute.device import Machine
from ragsmith.retrieve.passage_text import passage_inputs
from ragsmith.retrieve.rerank import rerank
from ragsmith.retrieve.teacher import Teacher

QUERIES = pd.DataFrame({"query_id": ["z", "a"], "text": ["how to copy a file", "sort a list in place"]})
PASSAGES = pd.DataFrame(
    {
        "passage_id": ["p1", "p2", "p3", "p4", "unread"],
        "title": ["shutil", "list", "json", "os", "never"],
        "text": ["shutil.copy copies a file", "list.sort sorts in place", "json.dumps", "os.remove deletes", "x"],
    }
)
RUN = pd.DataFrame(
    [
        (q, p, 1.0 / rank, rank, 0.9 - rank / 10)
        for q in ("z", "a")
        for rank, p in enumerate(["p3", "p1", "p4", "p2"], 1)
    ],
    columns=["query_id", "passage_id", "score", "rank", "cosine"],
)


@pytest.fixture
def teacher(tiny_reranker):
    return Teacher.load(tiny_reranker, Machine("cpu", "fp32"))


def test_first_passages_stand_in_the_order_of_the_cross_encoder(teacher, tiny_reranker):
    from sentence_transformers import CrossEncoder

    found = rerank(RUN, QUERIES, PASSAGES, teacher, depth=3)
    assert found["query_id"].tolist() == ["z"] * 3 + ["a"] * 3  # in the order of the run
    assert found["rank"].tolist() == [1, 2, 3] * 2
    inputs = dict(zip(PASSAGES["passage_id"], passage_inputs(PASSAGES), strict=True))
    model = CrossEncoder(str(tiny_reranker), device="cpu")
    for query_id, text in zip(QUERIES["query_id"], QUERIES["text"], strict=True):
        scores = model.predict([(text, inputs[p]) for p in ("p3", "p1", "p4")], show_progress_bar=False)
        expected = [p for _, p in sorted(zip(-scores, ["p3", "p1", "p4"], strict=True))]
        of_query = found[found["query_id"] == query_id]
        assert of_query["passage_id"].tolist() == expected
        assert of_query["score"].tolist() == pytest.approx(sorted(scores, reverse=True), abs=1e-4)
        # The cosine stays with its passage.
        assert of_query.set_index("passage_id")["cosine"].to_dict() == pytest.approx({"p3": 0.8, "p1": 0.7, "p4": 0.6})


def test_equal_scores_keep_the_order_of_retrieval(teacher, monkeypatch):
    monkeypatch.setattr(teacher, "score", lambda queries, passages, of, at, label: at * 0.0)
    assert rerank(RUN, QUERIES, PASSAGES, teacher, depth=4)["passage_id"].tolist() == RUN["passage_id"].tolist()


def test_query_for_which_nothing_was_found_has_no_rows(teacher):
    found = rerank(RUN[RUN["query_id"] == "a"], QUERIES, PASSAGES, teacher, depth=2)
    assert set(found["query_id"]) == {"a"} and len(found) == 2
