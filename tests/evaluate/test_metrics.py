import json

import pytest

from ragsmith.evaluate.metrics import summarise


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
        (lambda t: t.iloc[:0], [], {}, "nothing to summarise"),
        (lambda t: t.drop(columns="system"), [], {}, "lacks column 'system'"),
        (lambda t: t, [], {"path": object()}, "metrics.json cannot hold this"),
        (lambda t: t, [], {"loss": float("nan")}, "metrics.json cannot hold this"),
    ],
)
def test_faulty_input_is_refused(retrieval, change, pairs, run, message):
    with pytest.raises(ValueError, match=message):
        summarise(change(retrieval), None, pairs, run, samples=50, seed=0)
