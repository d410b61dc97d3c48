import json

import pandas as pd
import pytest

from ragsmith.evaluate.metrics import summarise
from ragsmith.evaluate.significance import bootstrap_interval, compare


def test_summary_has_the_documented_shape(metrics):
    assert list(metrics) == ["retrieval", "comparisons", "answers", "run", "queries"]
    assert list(metrics["retrieval"]) == ["bm25", "base", "tuned"]
    estimates = [value for by_metric in metrics["retrieval"].values() for value in by_metric.values()]
    for value in [*estimates, *metrics["answers"].values()]:
        assert set(value) == {"mean", "ci95"}
        assert value["ci95"][0] <= value["mean"] <= value["ci95"][1]
    assert set(metrics["retrieval"]["base"]) == {"ndcg@10", "mrr@10", "recall@10"}
    assert len(metrics["comparisons"]) == 2 * 3
    assert set(metrics["comparisons"][0]) == {"a", "b", "metric", "difference", "ci95", "p", "p_holm"}
    assert set(metrics["answers"]) == {"em", "f1"}
    assert metrics["run"]["retriever"] == {"base": "all-MiniLM-L6-v2", "epochs": 2}
    assert metrics["queries"]["test"] == 40
    assert set(metrics["queries"]["smallest_detectable_difference"]) == {"ndcg@10", "mrr@10", "recall@10"}


def test_summary_survives_json(metrics):
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_means_and_differences_are_those_of_the_table(metrics, retrieval):
    means = retrieval[retrieval["metric"] == "mrr@10"].groupby("system")["value"].mean()
    assert metrics["retrieval"]["tuned"]["mrr@10"]["mean"] == pytest.approx(means["tuned"])
    entry = next(e for e in metrics["comparisons"] if (e["a"], e["metric"]) == ("bm25", "mrr@10"))
    assert entry["difference"] == pytest.approx(means["tuned"] - means["bm25"])


def test_intervals_and_tests_are_those_of_each_metric_alone(metrics, retrieval):
    systems = dict(list(retrieval.groupby("system")))
    alone = compare(systems["bm25"], systems["tuned"], names=("bm25", "tuned"), samples=500, seed=0)
    for entry in alone:
        (found,) = [
            e for e in metrics["comparisons"] if (e["a"], e["b"], e["metric"]) == (entry.a, entry.b, entry.metric)
        ]
        assert (found["ci95"], found["p"]) == (pytest.approx(list(entry.ci95)), entry.p)
    table = systems["base"].query("metric == 'mrr@10'").sort_values("query_id")
    interval = bootstrap_interval(table["value"], samples=500, seed=0)
    assert metrics["retrieval"]["base"]["mrr@10"]["ci95"] == pytest.approx(list(interval))


def test_all_measures_of_answers_that_are_there_are_summarised(retrieval, answer_scores):
    scored = answer_scores.assign(rougeL=0.25, bleu=answer_scores["f1"] / 2, note="not a score")
    answers = summarise(retrieval, scored, [], {}, samples=50, seed=0)["answers"]
    assert list(answers) == ["em", "f1", "bleu", "rougeL"]
    assert answers["rougeL"] == {"mean": 0.25, "ci95": [0.25, 0.25]}
    assert answers["bleu"]["mean"] == pytest.approx(answers["f1"]["mean"] / 2)


def test_answers_that_are_all_empty_have_the_interval_zero(retrieval, answer_scores):
    scored = answer_scores.assign(em=0.0, f1=0.0)
    answers = summarise(retrieval, scored, [], {}, samples=50, seed=0)["answers"]
    assert answers == {"em": {"mean": 0.0, "ci95": [0.0, 0.0]}, "f1": {"mean": 0.0, "ci95": [0.0, 0.0]}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.assign(query_id="q1"), "answer scores repeat query 'q1'"),
        (lambda t: t.assign(f1=None), "40 of 80 values are NaN or infinite, in column 'f1'"),
        (lambda t: t.drop(columns="f1"), "answers lacks column 'f1'"),
    ],
)
def test_faulty_answer_scores_are_refused(retrieval, answer_scores, change, message):
    with pytest.raises(ValueError, match=message):
        summarise(retrieval, change(answer_scores), [], {}, samples=50, seed=0)


def test_holm_corrects_over_all_comparisons_together(metrics):
    entries = metrics["comparisons"]
    smallest = min(entries, key=lambda entry: entry["p"])
    assert smallest["p_holm"] == pytest.approx(min(1, len(entries) * smallest["p"]))


def test_same_scores_and_seed_give_the_same_bytes_in_any_order_of_queries(retrieval, answer_scores):
    def dump(table, answers):
        return json.dumps(summarise(table, answers, [("base", "tuned")], {}, samples=100, seed=5), sort_keys=True)

    turned = retrieval.sort_values("query_id", ascending=False, kind="stable")
    assert dump(retrieval, answer_scores) == dump(turned, answer_scores.iloc[::-1])


def test_without_answers_and_pairs_their_parts_are_empty(retrieval):
    summary = summarise(retrieval, None, [], {}, samples=50, seed=0)
    assert summary["answers"] == {} and summary["comparisons"] == []
    assert summary["queries"]["smallest_detectable_difference"] == {}


def test_inputs_are_left_alone(retrieval, answer_scores):
    run = {"models": {"a": 1}}
    before = retrieval.copy()
    summarise(retrieval, answer_scores, [("base", "tuned")], run, samples=50, seed=0)["run"]["models"]["a"] = 2
    assert run == {"models": {"a": 1}} and retrieval.equals(before)


@pytest.mark.parametrize(
    ("change", "pairs", "run", "message"),
    [
        (lambda t: t, [("base", "tunned")], {}, "unknown system 'tunned'. Scored systems: 'bm25', 'base', 'tuned'"),
        (lambda t: t.iloc[1:], [], {}, "not scored on the same"),
        (lambda t: t[(t["metric"] != "mrr@10") | (t["query_id"] != "q3")], [], {}, "mrr@10 on 39. Score all metrics"),
        (lambda t: t.iloc[:0], [], {}, "nothing to summarise"),
        (lambda t: pd.concat([t, t.iloc[:1]]), [], {}, r"repeats .* \('bm25', 'q0', 'ndcg@10'\); keep one value"),
        (lambda t: t[t["query_id"] == "q3"], [], {}, "at least two queries; got 1"),
        (
            lambda t: t.assign(value=t["value"].where(t.index > 0)),
            [],
            {},
            r"1 of 360 values are NaN or infinite, in column \('bm25', 'ndcg@10'\)",
        ),
        (lambda t: t.drop(columns="system"), [], {}, "lacks column 'system'"),
        (lambda t: t, [], {"path": object()}, "metrics.json cannot hold this"),
        (lambda t: t, [], {"loss": float("nan")}, "metrics.json cannot hold this"),
    ],
)
def test_faulty_input_is_refused(retrieval, change, pairs, run, message):
    with pytest.raises(ValueError, match=message):
        summarise(change(retrieval), None, pairs, run, samples=50, seed=0)
