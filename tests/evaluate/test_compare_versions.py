import json

import numpy as np
import pandas as pd
import pytest

from ragsmith.evaluate.compare_versions import compare_versions, significantly_worse
from ragsmith.evaluate.saved_version import SavedVersion, read_version
from ragsmith.evaluate.significance import bootstrap_interval, holm, paired_permutation_test


def version(name, em, run=None, **columns):
    """One question for each value of `em`."""
    table = {
        "query_id": [f"q{number}" for number in range(len(em))],
        "query": [f"What is number {number}?" for number in range(len(em))],
        "answer": [f"{name} {number}" for number in range(len(em))],
        "em": em,
        "f1": em,
    }
    return SavedVersion(name, {"run": run or {}}, pd.DataFrame(table | columns))


def ranks(*values):
    return pd.array(values, dtype="Int64")


def by_metric(result):
    return {(row["system"], row["metric"]): row for row in result["comparisons"]}


def test_figures_are_the_means_differences_and_tests_of_the_paired_scores():
    rng = np.random.default_rng(1)
    first, second = rng.integers(0, 2, 40).astype(float), rng.integers(0, 2, 40).astype(float)
    f1 = [rng.random(40), rng.random(40)]
    a, b = version("a", first, f1=f1[0]), version("b", second, f1=f1[1])
    result = compare_versions(a, b, samples=500, seed=3)
    rows = by_metric(result)
    assert list(rows) == [("", "em"), ("", "f1")]
    # By query_id, so that the same seed gives the same interval whatever the order of rows.
    order = np.argsort([f"q{number}" for number in range(40)])
    p = {}
    for metric, (left, right) in {"em": (first, second), "f1": f1}.items():
        row, differences = rows["", metric], (right - left)[order]
        assert row["mean_a"] == pytest.approx(left.mean()) and row["mean_b"] == pytest.approx(right.mean())
        assert row["difference"] == pytest.approx(right.mean() - left.mean())
        assert row["ci95"] == pytest.approx(bootstrap_interval(differences, samples=500, seed=3))
        p[metric] = paired_permutation_test(np.zeros(40), differences, samples=500, seed=3)
        assert row["p"] == pytest.approx(p[metric]) and (row["a"], row["b"]) == ("a", "b")
    assert [row["p_holm"] for row in rows.values()] == pytest.approx(holm(list(p.values())))


def test_order_of_rows_changes_nothing():
    a, b = version("a", [0.0, 1.0, 1.0, 0.0, 1.0]), version("b", [1.0, 1.0, 0.0, 0.0, 1.0])
    turned = SavedVersion("a", a.metrics, a.per_query.iloc[::-1].reset_index(drop=True))
    assert compare_versions(a, b, samples=50) == compare_versions(turned, b, samples=50)


def test_ranks_become_mrr_and_hits_worked_by_hand():
    a = version("a", [0.0] * 4, rank_tuned=ranks(1, 2, 11, None))
    b = version("b", [0.0] * 4, rank_tuned=ranks(4, 10, 1, None))
    rows = by_metric(compare_versions(a, b, samples=50, metrics=["mrr@10", "hit@10", "hit@1", "mrr@2_tuned"]))
    assert rows["tuned", "mrr@10"]["mean_a"] == pytest.approx((1 + 1 / 2 + 0 + 0) / 4)
    assert rows["tuned", "mrr@10"]["mean_b"] == pytest.approx((1 / 4 + 1 / 10 + 1 + 0) / 4)
    assert (rows["tuned", "hit@10"]["mean_a"], rows["tuned", "hit@10"]["mean_b"]) == (2 / 4, 3 / 4)
    assert (rows["tuned", "hit@1"]["mean_a"], rows["tuned", "hit@1"]["mean_b"]) == (1 / 4, 1 / 4)
    assert (rows["tuned", "mrr@2"]["mean_a"], rows["tuned", "mrr@2"]["mean_b"]) == (1.5 / 4, 1 / 4)


def test_every_system_that_both_have_is_compared_and_no_other():
    a = version("a", [0.0, 1.0], **{"ndcg@10_base": [0.5, 0.5], "rank_base": ranks(2, 2), "ndcg@10_old_one": [1.0, 0]})
    b = version("b", [0.0, 1.0], **{"rank_base": ranks(1, 1), "ndcg@10_base": [1.0, 1.0], "rank_new": ranks(1, 1)})
    rows = by_metric(compare_versions(a, b, samples=50))
    assert list(rows) == [("", "em"), ("", "f1"), *(("base", metric) for metric in ("ndcg@10", "mrr@10", "hit@10"))]
    assert rows["base", "ndcg@10"]["difference"] == 0.5


def test_table_that_a_run_has_just_made_can_be_compared_as_it_is():
    columns = {
        "expected": [["x"], []],
        "posteriors": [[0.5, 0.5], []],
        "slice_word": ["what", "who"],
        "em_oracle": [1.0, 1.0],
        "rank_tuned": [float("nan"), 2.0],
    }
    rows = by_metric(
        compare_versions(version("a", [0.0, 1.0], **columns), version("b", [0.0, 1.0], **columns), samples=50)
    )
    assert list(rows) == [("", "em"), ("", "f1"), ("tuned", "mrr@10"), ("tuned", "hit@10")]
    assert rows["tuned", "mrr@10"]["mean_a"] == 0.25


def test_further_scores_of_answers_are_compared_where_both_have_them():
    a, b = version("a", [0.0, 1.0], bleu=[0.0, 0.5], rougeL=[0.0, 0.5]), version("b", [0.0, 1.0], bleu=[0.5, 0.5])
    assert list(by_metric(compare_versions(a, b, samples=50))) == [("", "em"), ("", "f1"), ("", "bleu")]


def test_questions_are_paired_by_id_and_text_and_the_others_counted():
    a = version("a", [0.0, 0.0, 1.0, 1.0, 1.0], query_id=["x", "y", "z", "changed", "gone"])
    b = version("b", [1.0, 1.0, 0.0, 1.0], query_id=["new", "y", "x", "changed"])
    b.per_query["query"] = ["?", "What is number 1?", "What is number 0?", "What is NUMBER 3?"]
    result = compare_versions(a, b, samples=50)
    expected = {"a": 5, "b": 4, "both": 2, "only_a": 2, "only_b": 1, "changed_text": 1}
    assert result["queries"] == expected
    assert by_metric(result)["", "em"]["mean_b"] == 0.5  # y 1, x 0
    assert sum(outcome["queries"] for outcome in result["outcomes"].values()) == 2


@pytest.mark.parametrize("ids", [["n0", "n1"], ["q0", "n1"]])
def test_fewer_than_two_common_questions_are_refused_with_the_counts(ids):
    with pytest.raises(ValueError, match=r"of 3 and 2 questions [01] have the same id"):
        compare_versions(version("a", [0.0, 1.0, 1.0]), version("b", [0.0, 1.0], query_id=ids))


def test_won_lost_and_tied_questions_are_listed_largest_change_first():
    a = version("a", [0.0, 1.0, 0.0, 1.0, 0.0], f1=[0.0, 1.0, 0.5, 1.0, 0.2])
    b = version("b", [1.0, 0.0, 0.0, 1.0, 0.0], f1=[1.0, 0.4, 0.7, 1.0, 0.9])
    outcomes = compare_versions(a, b, samples=50)["outcomes"]
    listed = {name: [row["query_id"] for row in outcome["rows"]] for name, outcome in outcomes.items()}
    assert listed == {"won": ["q0", "q4", "q2"], "lost": ["q1"], "tied": ["q3"]}
    assert outcomes["lost"]["rows"] == [
        {
            "query_id": "q1",
            "query": "What is number 1?",
            "answer_a": "a 1",
            "answer_b": "b 1",
            "em_a": 1.0,
            "em_b": 0.0,
            "f1_a": 1.0,
            "f1_b": 0.4,
        }
    ]
    limited = compare_versions(a, b, samples=50, limit=1)["outcomes"]
    assert limited["won"]["queries"] == 3 and [row["query_id"] for row in limited["won"]["rows"]] == ["q0"]


def test_exact_match_decides_before_f1():
    a, b = version("a", [0.0, 0.0], f1=[0.9, 0.5]), version("b", [1.0, 0.0], f1=[0.1, 0.5])
    assert compare_versions(a, b, samples=50)["outcomes"]["won"]["queries"] == 1


def test_what_differs_in_the_run_is_told_with_both_values():
    one = {"seed": 0, "retriever": {"epochs": 2, "base": "MiniLM", "lora": {}}, "sources": ["a"], "gone": None}
    two = {"seed": 0, "retriever": {"epochs": 3, "base": "MiniLM", "lora": {"r": 8}}, "sources": ["a", "b"]}
    result = compare_versions(version("a", [0.0, 1.0], one), version("b", [0.0, 1.0], two), samples=50)
    assert result["run"] == [
        {"key": "gone", "a": None, "b": None},
        {"key": "retriever.epochs", "a": 2, "b": 3},
        {"key": "retriever.lora", "a": {}, "b": None},
        {"key": "retriever.lora.r", "a": None, "b": 8},
        {"key": "sources", "a": ["a"], "b": ["a", "b"]},
    ]


def test_equal_versions_differ_in_nothing(tmp_path, publish_evaluation):
    scores = {"rank_tuned": ranks(1, None, 3), "ndcg@10_tuned": [1.0, 0.0, 0.5]}
    saved = read_version(publish_evaluation(tmp_path / "v", [0.0, 1.0, 1.0], run={"seed": 1}, **scores))
    result = compare_versions(saved, saved, samples=99)
    assert len(result["comparisons"]) == 5 and result["run"] == []
    for row in result["comparisons"]:
        assert (row["difference"], row["ci95"], row["p"], row["p_holm"]) == (0.0, [0.0, 0.0], 1.0, 1.0)
    assert result["outcomes"]["tied"]["queries"] == 3


def test_result_survives_json_with_hostile_texts_in_it():
    evil = "<script>alert(1)</script>\u202e\0" + "x" * 100_000
    a = version("a", [0.0, 1.0], run={evil: {evil: "\ud800"}}, query=[evil, "q"], answer=[evil, evil])
    b = version("b", [0.0, 1.0], query=[evil, "q"], answer=["", ""])
    result = compare_versions(a, b, samples=50)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert all(len(row[key]) <= 500 for row in result["outcomes"]["tied"]["rows"] for key in ("query", "answer_a"))


def test_metrics_can_be_chosen_and_an_unknown_one_is_answered_with_those_that_there_are():
    columns = {"ndcg@10_base": [0.5, 0.5], "ndcg@10_tuned": [0.5, 0.5], "rank_tuned": ranks(1, 1)}
    a, b = version("a", [0.0, 1.0], **columns), version("b", [0.0, 1.0], **columns)

    def chosen(*names):
        return list(by_metric(compare_versions(a, b, samples=50, metrics=names)))

    assert chosen("ndcg@10") == [("base", "ndcg@10"), ("tuned", "ndcg@10")]
    assert chosen("ndcg@10_tuned", "em", "ndcg@10_tuned") == [("tuned", "ndcg@10"), ("", "em")]
    assert chosen("mrr@3") == [("tuned", "mrr@3")]  # base has no ranks
    for unknown in ("bleu", "ndcg@5", "mrr@0", "mrr@10_base", "query", "", "<b>"):
        with pytest.raises(ValueError, match="is no metric of both versions") as caught:
            chosen(unknown)
        assert "'em', 'f1', 'ndcg@10', 'mrr@k', 'hit@k'" in str(caught.value)
        assert "'base', 'tuned'" in str(caught.value)


def test_worse_is_only_what_was_asked_for_and_is_shown():
    count = 40
    a = version("a", [1.0] * count, **{"ndcg@10_base": [0.5] * count, "ndcg@10_tuned": [0.9] * count})
    worse = [0.0] * 12 + [1.0] * (count - 12)
    b = version("b", worse, **{"ndcg@10_base": [0.9] * count, "ndcg@10_tuned": [0.8] * 2 + [0.9] * (count - 2)})

    def found(*metrics):
        return significantly_worse(a, b, metrics, samples=999, seed=0)

    (row,) = found("em", "ndcg@10")
    # Corrected for the three that were asked for, em and nDCG@10 of two systems, and not for f1.
    assert row["metric"] == "em" and row["p_holm"] == pytest.approx(3 * row["p"])
    assert [row["p_holm"] for row in found("em")] == pytest.approx([row["p"]])
    assert found("ndcg@10_tuned") == []  # two of forty questions show nothing
    assert found("ndcg@10_base") == []  # better
    assert found() == []
    with pytest.raises(ValueError, match=r"'ndcg@10_other' is no metric of both versions"):
        found("ndcg@10_other")


def test_false_alarms_are_as_rare_as_the_level_says():
    rng = np.random.default_rng(5)
    alarms = 0
    for number in range(300):
        same = rng.random(30) < 0.5
        a, b = (version(name, np.where(same, 1.0, rng.integers(0, 2, 30)).astype(float)) for name in "ab")
        alarms += bool(significantly_worse(a, b, ["em"], samples=199, seed=number))
    assert alarms <= 15  # two-sided level .05, of which half is worse: 7.5 are expected


def test_questions_that_nobody_judged_say_nothing_about_ranks():
    gain, em = [1.0, 0.5, np.nan, 0.0, np.nan], [0.0, 1.0, 1.0, 0.0, 1.0]
    a = version("a", em, rank_x=ranks(1, 3, None, None, None), **{"ndcg@10_x": gain})
    b = version("b", em[::-1], rank_x=ranks(2, 1, None, 4, None), **{"ndcg@10_x": [0.6, 1.0, np.nan, 0.4, np.nan]})
    rows = by_metric(compare_versions(a, b, samples=200))
    kept = [0, 1, 3]
    alone = by_metric(
        compare_versions(*(SavedVersion(v.name, v.metrics, v.per_query.iloc[kept]) for v in (a, b)), samples=200)
    )
    assert list(rows) == list(alone)
    for key in (("x", "ndcg@10"), ("x", "mrr@10"), ("x", "hit@10")):
        same = [name for name in rows[key] if name != "p_holm"]
        assert [rows[key][name] for name in same] == [alone[key][name] for name in same]
    assert rows["x", "hit@10"]["mean_a"] == pytest.approx(2 / 3) and rows["", "em"]["mean_a"] == 3 / 5
    assert [row["p_holm"] for row in rows.values()] == pytest.approx(holm([row["p"] for row in rows.values()]))


def test_a_metric_that_was_asked_for_and_that_nobody_judged_is_refused():
    a = version("a", [0.0, 1.0, 1.0], **{"ndcg@10_x": [1.0, np.nan, np.nan]})
    with pytest.raises(ValueError, match=r"Fewer than two questions are judged in both versions.*'ndcg@10_x'"):
        compare_versions(a, a, samples=50, metrics=["ndcg@10"])
    assert [row["metric"] for row in compare_versions(a, a, samples=50)["comparisons"]] == ["em", "f1"]
