import json

import ir_measures
import numpy as np
import pandas as pd
import pytest

from ragsmith.evaluate.retrieval import score_matrix
from ragsmith.evaluate.significance import bootstrap_interval
from ragsmith.evaluate.sweep import KS, RETRIEVAL_KINDS, reader_sweep, retrieval_sweep
from ragsmith.retrieve.has_answer import has_answer

PASSAGES = pd.DataFrame(
    {"passage_id": ["p1", "p2", "p3", "p4"], "text": ["It is red.", "It is green.", "It is blue.", "Nothing."]}
)
QRELS = pd.DataFrame({"query_id": ["a", "b", "b"], "passage_id": ["p2", "p1", "p3"], "grade": [1, 2, 1]})
ANSWERS = pd.DataFrame({"query_id": ["a", "b", "train"], "answers": [["green"], ["red", "blue"], ["x"]]})


def run_of(system, **ranked):
    rows = [
        (system, query_id, passage_id, 1 / rank, rank)
        for query_id, passage_ids in ranked.items()
        for rank, passage_id in enumerate(passage_ids.split(), start=1)
    ]
    return pd.DataFrame(rows, columns=["system", "query_id", "passage_id", "score", "rank"])


RUNS = pd.concat([run_of("bm25", a="p1 p2", b="p4 p3 p1"), run_of("tuned", a="p2", b="p1 p3")], ignore_index=True)


def test_every_mean_is_the_one_worked_by_hand():
    found = retrieval_sweep(RUNS, QRELS, ANSWERS, PASSAGES, ks=(3, 1, 2, 2), samples=200)["retrieval"]
    bm25 = found["bm25"]
    assert list(found) == ["bm25", "tuned"] and list(bm25) == [*RETRIEVAL_KINDS, "answer_recall"]
    assert list(bm25["hit"]) == ["1", "2", "3"]
    assert bm25["hit"] == bm25["answer_recall"] == {"1": 0.0, "2": 1.0, "3": 1.0}
    assert bm25["recall"] == {"1": 0.0, "2": 0.75, "3": 1.0}  # a 0 1 1, b 0 1/2 1
    assert bm25["precision"] == {"1": 0.0, "2": 0.5, "3": pytest.approx((1 / 3 + 2 / 3) / 2)}
    assert bm25["mrr"] == {"1": 0.0, "2": 0.5, "3": 0.5}
    # b: 1/2 of two right passages at rank 2, and 2/3 at rank 3
    assert bm25["map"] == {"1": 0.0, "2": 0.375, "3": pytest.approx((1 / 2 + (1 / 2 + 2 / 3) / 2) / 2)}
    ideal, gained = 2 + 1 / np.log2(3), 1 / np.log2(3) + 2 / 2
    assert bm25["ndcg"]["3"] == pytest.approx((1 / np.log2(3) + gained / ideal) / 2)
    assert {kind: by_k["3"] for kind, by_k in found["tuned"].items() if kind != "precision"} == {
        kind: 1.0 for kind in bm25 if kind != "precision"
    }  # what stands behind the end of a run is no passage
    assert found["tuned"]["precision"]["3"] == pytest.approx((1 / 3 + 2 / 3) / 2)


def test_means_are_those_of_ir_measures_and_of_a_slow_loop():
    rng = np.random.default_rng(0)
    ids = [f"p{n}" for n in range(60)]
    passages = pd.DataFrame({"passage_id": ids, "text": [f"word{n % 17} and more" for n in range(60)]})
    query_ids = [f"q{n}" for n in range(25)]
    qrels = pd.DataFrame(
        [
            (q, p, int(rng.integers(1, 4)))
            for q in query_ids
            for p in rng.choice(ids, rng.integers(1, 6), replace=False)
        ],
        columns=["query_id", "passage_id", "grade"],
    )
    run = run_of("dense", **{q: " ".join(rng.permutation(ids)[: rng.integers(5, 60)]) for q in query_ids})
    answers = pd.DataFrame({"query_id": query_ids, "answers": [[f"word{n % 20}"] for n in range(25)]})
    found = retrieval_sweep(run, qrels, answers, passages, samples=200)["retrieval"]["dense"]
    judged = qrels.set_axis(["query_id", "doc_id", "relevance"], axis=1)
    ranked = run.assign(score=-run["rank"]).rename(columns={"passage_id": "doc_id"})[["query_id", "doc_id", "score"]]
    names = {"hit": "Success", "recall": "R", "precision": "P", "mrr": "RR", "map": "AP", "ndcg": "nDCG"}
    for kind, name in names.items():
        for k in KS:
            expected = ir_measures.calc_aggregate([ir_measures.parse_measure(f"{name}@{k}")], judged, ranked)
            assert found[kind][str(k)] == pytest.approx(next(iter(expected.values()))), (kind, k)
    texts, references = passages.set_index("passage_id")["text"], answers.set_index("query_id")["answers"]
    for k in KS:
        first = run[run["rank"] <= k]
        hits = {
            q
            for q, p in zip(first["query_id"], first["passage_id"], strict=True)
            if has_answer(texts[p], references[q])
        }
        assert found["answer_recall"][str(k)] == pytest.approx(len(hits) / 25)


def test_every_mean_has_the_interval_of_its_queries():
    found = retrieval_sweep(RUNS, QRELS, ANSWERS, PASSAGES, ks=[1, 2], samples=500, seed=3)
    means, ends = found["retrieval"], found["retrieval_ci95"]
    assert {system: list(kinds) for system, kinds in ends.items()} == {name: list(means[name]) for name in means}
    alone = score_matrix(RUNS[RUNS["system"] == "bm25"].reset_index(drop=True), QRELS, ["recall@2"])
    expected = bootstrap_interval(alone.sort_index()["recall@2"], samples=500, seed=3)
    assert ends["bm25"]["recall"]["2"] == pytest.approx(list(expected))
    assert ends["tuned"]["hit"]["1"] == [1.0, 1.0]
    one = retrieval_sweep(RUNS, QRELS, ANSWERS[ANSWERS["query_id"] == "b"], PASSAGES, ks=[1])
    assert one["retrieval_ci95"]["bm25"]["answer_recall"]["1"] == [0.0, 1.0]


def test_answer_recall_is_counted_over_the_queries_that_have_answers():
    some = retrieval_sweep(RUNS, QRELS, ANSWERS[ANSWERS["query_id"] == "b"], PASSAGES, ks=[1])["retrieval"]
    assert some["bm25"]["answer_recall"] == {"1": 0.0} and some["tuned"]["answer_recall"] == {"1": 1.0}
    for answers in (None, ANSWERS[ANSWERS["query_id"] == "train"]):
        found = retrieval_sweep(RUNS, QRELS, answers, PASSAGES, ks=[1])["retrieval"]
        assert list(found["bm25"]) == list(RETRIEVAL_KINDS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ks": []}, "pass at least one"),
        ({"ks": [0, 5]}, "none below 1"),
        ({"runs": RUNS.iloc[:0]}, "runs are empty"),
        ({"runs": RUNS.drop(columns="system")}, "lacks column 'system'"),
        ({"passages": None}, "pass the passages table too"),
        ({"qrels": QRELS[QRELS["query_id"] == "a"], "answers": None}, "queries that the qrels lack"),
    ],
)
def test_faulty_runs_are_refused(arguments, message):
    tables = {"runs": RUNS, "qrels": QRELS, "answers": ANSWERS, "passages": PASSAGES, "ks": [1]} | arguments
    with pytest.raises(ValueError, match=message):
        retrieval_sweep(**tables)


def swept(**by_k):
    rows = [(int(k[1:]), f"q{n}", em, em / 2) for k, values in by_k.items() for n, em in enumerate(values)]
    return pd.DataFrame(rows, columns=["k", "query_id", "em", "f1"])


def test_answers_are_told_for_each_number_of_passages():
    scores = swept(k10=[1, 1, 0, 1], k1=[0, 1, 0, 0], k5=[1, 1, 0, 0])
    found = reader_sweep(scores, samples=200, seed=0)
    assert [(row["k"], row["em"]["mean"], row["f1"]["mean"]) for row in found] == [
        (1, 0.25, 0.125), (5, 0.5, 0.25), (10, 0.75, 0.375)
    ]  # fmt: skip
    assert all(row["em"]["ci95"][0] <= row["em"]["mean"] <= row["em"]["ci95"][1] for row in found)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert reader_sweep(scores.sample(frac=1, random_state=0), samples=200, seed=0) == found


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (swept(k1=[]), "sweep_scores table is empty"),
        (swept(k1=[0, 1]).drop(columns="f1"), "lacks column 'f1'"),
        (pd.concat([swept(k1=[0, 1]), swept(k1=[1])]), r"repeat \(k, query_id\) \(1, 'q0'\)"),
        (swept(k1=[0, 1], k5=[0, 1, 1]), "differ between the numbers of passages: {1: 2, 5: 3}"),
        (swept(k1=[1]), "at least two queries"),
        (swept(k1=[0, np.nan]), "NaN"),
    ],
)
def test_faulty_scores_are_refused(scores, message):
    with pytest.raises(ValueError, match=message):
        reader_sweep(scores, seed=0)


def test_queries_without_judgements_count_for_answer_recall_alone():
    judged = retrieval_sweep(RUNS, QRELS[QRELS["query_id"] == "b"], ANSWERS, PASSAGES, ks=[1, 2])["retrieval"]["bm25"]
    of_b = retrieval_sweep(
        RUNS[RUNS["query_id"] == "b"], QRELS[QRELS["query_id"] == "b"], ANSWERS[1:2], PASSAGES, ks=[1, 2]
    )["retrieval"]["bm25"]
    assert {kind: judged[kind] for kind in RETRIEVAL_KINDS} == {kind: of_b[kind] for kind in RETRIEVAL_KINDS}
    assert judged["answer_recall"] == {"1": 0.0, "2": 1.0} and of_b["answer_recall"] == {"1": 0.0, "2": 1.0}
    none = retrieval_sweep(RUNS, QRELS[:0], ANSWERS, PASSAGES, ks=[1, 2])["retrieval"]["tuned"]
    assert none == {"answer_recall": {"1": 1.0, "2": 1.0}}
