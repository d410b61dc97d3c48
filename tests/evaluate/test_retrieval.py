import math

import numpy as np
import pandas as pd
import pytest

from ragsmith.evaluate.retrieval import first_right_ranks, score_matrix, score_run


def make_run(ranking: dict[str, list[str]], score: float | None = None) -> pd.DataFrame:
    rows = [
        (query_id, passage_id, 1 / rank if score is None else score, rank)
        for query_id, passages in ranking.items()
        for rank, passage_id in enumerate(passages, start=1)
    ]
    return pd.DataFrame(rows, columns=["query_id", "passage_id", "score", "rank"])


def make_qrels(grades: dict[str, dict[str, int]]) -> pd.DataFrame:
    rows = [(query_id, passage_id, grade) for query_id, by_id in grades.items() for passage_id, grade in by_id.items()]
    return pd.DataFrame(rows, columns=["query_id", "passage_id", "grade"])


def values(scored: pd.DataFrame) -> dict[tuple[str, str], float]:
    return {(row.query_id, row.metric): row.value for row in scored.itertuples()}


def slow_metric(name: str, ranking: list[str], grades: dict[str, int]) -> float:
    """The textbook formulas, on lists, sharing nothing with ir_measures."""
    kind, k = name.split("@")
    gains = [grades.get(passage_id, 0) for passage_id in ranking[: int(k)]]
    hits = [gain > 0 for gain in gains]
    right = sum(grade > 0 for grade in grades.values())
    if kind == "ndcg":
        ideal = sorted(grades.values(), reverse=True)[: int(k)]
        dcg, best = (sum(gain / math.log2(i + 2) for i, gain in enumerate(found)) for found in (gains, ideal))
        return dcg / best
    if kind == "mrr":
        return 1 / (hits.index(True) + 1) if any(hits) else 0.0
    if kind == "map":
        return sum(sum(hits[: i + 1]) / (i + 1) for i, hit in enumerate(hits) if hit) / right
    return {"recall": sum(hits) / right, "precision": sum(hits) / int(k), "hit": float(any(hits))}[kind]


def test_graded_ndcg_equals_the_figure_worked_by_hand():
    run = make_run({"q": ["wrong", "good", "best"]})
    qrels = make_qrels({"q": {"best": 2, "good": 1, "wrong": 0}})
    by_hand = (1 / math.log2(3) + 2 / math.log2(4)) / (2 / math.log2(2) + 1 / math.log2(3))
    scored = values(score_run(run, qrels))
    assert scored["q", "ndcg@10"] == pytest.approx(by_hand)
    assert scored["q", "mrr@10"] == 0.5
    assert scored["q", "recall@10"] == 1.0


@pytest.mark.parametrize("score", [None, 0.7], ids=["distinct scores", "all scores tied"])
def test_all_metrics_equal_the_slow_formulas_on_random_data(score):
    names = [f"{kind}@{k}" for kind in ("ndcg", "mrr", "recall", "precision", "map", "hit") for k in (1, 3, 10)]
    rng = np.random.default_rng(5)
    passages = [f"p{number}" for number in range(30)]
    ranking, grades = {}, {}
    for number in range(40):
        ranking[f"q{number}"] = list(rng.permutation(passages)[: rng.integers(0, 25)])  # 0: nothing retrieved
        judged = rng.permutation(passages)[: rng.integers(1, 8)]
        grades[f"q{number}"] = dict(zip(judged, map(int, rng.integers(0, 4, len(judged))), strict=True))
        grades[f"q{number}"][judged[0]] = 3
    assert any(not found for found in ranking.values())
    scored = values(score_run(make_run(ranking, score), make_qrels(grades), names))
    assert len(scored) == 40 * len(names)
    for (query_id, name), value in scored.items():
        slow = slow_metric(name, ranking[query_id], grades[query_id])
        assert value == pytest.approx(slow, abs=1e-6), (query_id, name)


def test_tied_scores_are_judged_in_the_order_of_our_ranks():
    # trec_eval alone would put "z" first: it breaks ties by descending id.
    scored = score_run(make_run({"q": ["a", "z"]}, score=1.0), make_qrels({"q": {"a": 1}}), ["mrr@10"])
    assert scored["value"].tolist() == [1.0]


def test_order_of_rows_in_the_run_does_not_matter():
    run, qrels = make_run({"q": ["a", "b", "c"]}), make_qrels({"q": {"b": 1}})
    pd.testing.assert_frame_equal(score_run(run.iloc[::-1], qrels), score_run(run, qrels))


def test_query_with_nothing_retrieved_scores_zero_and_keeps_its_rows():
    scored = score_run(make_run({"found": ["a"]}), make_qrels({"missed": {"a": 1}, "found": {"a": 1}}))
    assert scored["query_id"].tolist() == ["missed"] * 3 + ["found"] * 3
    assert scored["value"].tolist() == [0.0] * 3 + [1.0] * 3


def test_matrix_and_long_table_hold_the_same_values():
    run, qrels = make_run({"q2": ["a", "b"], "q1": ["b", "a"]}), make_qrels({"q1": {"a": 1}, "q2": {"a": 2}})
    matrix = score_matrix(run, qrels, ["mrr@10", "mrr@1", "ndcg@2"])
    assert matrix.index.tolist() == ["q1", "q2"] and matrix.columns.tolist() == ["mrr@10", "mrr@1", "ndcg@2"]
    assert matrix.loc["q1"].tolist() == pytest.approx([1 / 2, 0, 1 / math.log2(3)])
    assert matrix.loc["q2"].tolist() == [1.0, 1.0, 1.0]
    long = score_run(run, qrels, list(matrix.columns))
    assert long["query_id"].tolist() == ["q1"] * 3 + ["q2"] * 3
    assert long["value"].tolist() == matrix.to_numpy().ravel().tolist()


def test_all_metrics_equal_ir_measures_on_the_ids_themselves():
    import ir_measures
    from ir_measures import AP, RR, P, R, Success, nDCG

    rng = np.random.default_rng(11)
    passages = [f"passage {number}" for number in range(300)]
    ranking = {f"q{n}": list(rng.permutation(passages)[: rng.integers(1, 120)]) for n in range(60)}
    grades = {
        query_id: {name: int(rng.integers(1, 4)) for name in rng.permutation(passages)[:20]} for query_id in ranking
    }
    ours = score_matrix(
        make_run(ranking),
        make_qrels(grades),
        [f"{kind}@{k}" for kind in ("ndcg", "recall", "precision", "map", "hit") for k in (1, 5, 100)] + ["mrr@120"],
    )
    measures = [kind @ k for kind in (nDCG, R, P, AP, Success) for k in (1, 5, 100)] + [RR]
    scores = {query_id: {p: -float(rank) for rank, p in enumerate(found)} for query_id, found in ranking.items()}
    columns = dict(zip(measures, ours.columns, strict=True))
    count = 0
    for result in ir_measures.pytrec_eval.evaluator(measures, grades).iter_calc(scores):
        assert ours.loc[result.query_id, columns[result.measure]] == result.value, result
        count += 1
    assert count == ours.size


def test_a_single_query_has_its_scores():
    assert score_matrix(make_run({"q": ["a"]}), make_qrels({"q": {"a": 1}}), ["ndcg@1"]).to_dict() == {
        "ndcg@1": {"q": 1.0}
    }


def test_ids_may_hold_anything():
    odd = ["", " ", "missed 0", "1", "<script>", "\u202eabc", "x" * 100_000]
    matrix = score_matrix(
        make_run({"1": odd, "missed 0": odd}), make_qrels({"missed 0": {"1": 1}, "1": {"": 1}}), ["mrr@9"]
    )
    assert matrix["mrr@9"].tolist() == [pytest.approx(1 / 4), 1.0]


def test_mrr_is_cut_at_its_depth():
    run = make_run({"q": ["a", "b", "c", "d"]})
    scored = values(score_run(run, make_qrels({"q": {"c": 1}}), ["mrr@2", "mrr@3", "recall@10"]))
    assert scored == {("q", "mrr@2"): 0.0, ("q", "mrr@3"): pytest.approx(1 / 3), ("q", "recall@10"): 1.0}


def test_first_right_rank_is_missing_where_nothing_right_was_found():
    run = make_run({"late": ["x", "y", "a"], "never": ["x"]})
    ranks = first_right_ranks(run, make_qrels({"late": {"a": 1, "x": 0}, "never": {"a": 1}}))
    assert ranks["rank"].iloc[0] == 3 and ranks["rank"].isna().tolist() == [False, True]


@pytest.mark.parametrize("name", ["ndgc@10", "ndcg", "mrr@0", "recall@-1", "P@5"])
def test_unknown_metric_is_answered_with_the_valid_ones(name):
    with pytest.raises(ValueError, match="ndcg@k, mrr@k, recall@k, precision@k, map@k, hit@k"):
        score_run(make_run({}), make_qrels({"q": {"a": 1}}), [name])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: pd.concat([run, run]), r"run repeats .*\('q', 'a'\)"),
        (lambda run: run.assign(score=[math.nan, 1.0]), "1 NaN scores, for query 'q'"),
        (lambda run: run.assign(query_id="other"), "queries that the qrels lack: 'other'"),
        (lambda run: run.assign(rank=[0, 1]), "ranks other than 1, 2, 3 … for query 'q'"),
        (lambda run: run.assign(rank=[1, 1]), "ranks other than 1, 2, 3 … for query 'q'"),
        (lambda run: run.assign(rank=[1, 3]), "ranks other than 1, 2, 3 … for query 'q'"),
        (lambda run: run.assign(rank=[1.0, 1.5]), "ranks other than 1, 2, 3 … for query 'q'"),
        (lambda run: run.assign(rank=[1, None]), "ranks other than 1, 2, 3 … for query 'q'"),
        (lambda run: run.assign(passage_id=["a", None]), "run has 1 rows without query_id or passage_id"),
        (lambda run: run.iloc[:0], "run is empty: nothing was retrieved for any query"),
        (lambda run: run.drop(columns="score"), "run lacks column 'score'"),
    ],
)
def test_faulty_run_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        score_run(change(make_run({"q": ["a", "b"]})), make_qrels({"q": {"a": 1}}))


@pytest.mark.parametrize(
    ("qrels", "message"),
    [
        (make_qrels({}), "qrels are empty"),
        (make_qrels({"q": {"a": 1}, "bare": {"a": 0}}), "no right passage .* for query 'bare'"),
        (make_qrels({"q": {"a": 1, "b": -1}}), "1 negative or missing grades"),
        (make_qrels({"q": {"a": 1.5}}), "1 grades that are no whole numbers"),
        (make_qrels({"q": {"a": 1, None: 1}}), "qrels have 1 rows without query_id or passage_id"),
        (pd.concat([make_qrels({"q": {"a": 1}})] * 2), r"qrels repeat .*\('q', 'a'\)"),
    ],
)
def test_faulty_qrels_are_refused(qrels, message):
    with pytest.raises(ValueError, match=message):
        score_run(make_run({}), qrels)


def test_passages_that_do_not_exist_are_named_where_the_passages_are_given():
    run, qrels = make_run({"q": ["a", "ghost"]}), make_qrels({"q": {"a": 1, "gone": 1}})
    known = pd.DataFrame({"passage_id": ["a", "ghost", "gone"]})
    assert score_matrix(run, qrels, ["hit@1"], known).size == 1
    with pytest.raises(ValueError, match=r"(?s)qrels name passages .* lacks: 'gone'.*run name.*: 'ghost'"):
        score_run(run, qrels, ["hit@1"], known.iloc[:1])


def test_all_faults_come_in_one_message():
    with pytest.raises(ValueError, match=r"(?s)qrels repeat.*run has queries"):
        score_run(make_run({"other": ["a"]}), pd.concat([make_qrels({"q": {"a": 1}})] * 2))
