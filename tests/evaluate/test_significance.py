from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest

from ragsmith.evaluate import _resampling
from ragsmith.evaluate.significance import (
    Comparison,
    bootstrap_interval,
    bootstrap_intervals,
    compare,
    compare_columns,
    correct_together,
    difference_of_groups,
    estimates,
    holm,
    paired_permutation_test,
    paired_permutation_tests,
    smallest_detectable_difference,
)


def scores(values, metric="ndcg@10"):
    return pd.DataFrame({"query_id": [f"q{n}" for n in range(len(values))], "metric": metric, "value": values})


def test_interval_of_a_large_sample_is_the_normal_one():
    values = np.random.default_rng(0).normal(3, 2, 400)
    low, high = bootstrap_interval(values, seed=1)
    half = 1.96 * values.std(ddof=1) / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)


def test_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(2)
    intervals = [bootstrap_interval(rng.random(40), samples=400, level=0.9, seed=n) for n in range(300)]
    coverage = np.mean([low <= 0.5 <= high for low, high in intervals])
    assert 0.84 < coverage < 0.95  # 90 % nominal; 3 standard errors are 5 %


def super_uniform(p_values, tolerance=3.0):
    """Whether p is below each level at most as often as the level says, up to so many standard errors."""
    levels = np.arange(0.01, 1.0, 0.01)
    found = np.array([np.mean(np.asarray(p_values) <= level) for level in levels])
    return bool((found <= levels + tolerance * np.sqrt(levels * (1 - levels) / len(p_values))).all())


@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        (lambda rng, shape: rng.random(shape), 0.5),
        (lambda rng, shape: rng.integers(0, 2, shape).astype(float), 0.5),  # exact match
        (lambda rng, shape: 1 / rng.integers(1, 11, shape), np.mean(1 / np.arange(1, 11))),  # reciprocal rank
        (lambda rng, shape: rng.choice([-1.0, 0.0, 1.0], shape, p=[0.1, 0.7, 0.2]), 0.1),  # a difference of two
    ],
    ids=["even", "right or wrong", "reciprocal rank", "difference"],
)
def test_interval_of_95_percent_covers_the_truth_in_93_to_97_percent(draw, truth):
    # A column is a test set of 200 queries; with 4,000 of them the standard error is .35 %.
    matrix = draw(np.random.default_rng(12), (200, 4000))
    low, high = bootstrap_intervals(matrix, samples=1000, seed=3).T
    assert 0.93 <= np.mean((low <= truth) & (truth <= high)) <= 0.97


def test_interval_is_that_of_scipy_up_to_the_draw():
    from scipy.stats import bootstrap

    values = np.random.default_rng(4).exponential(size=150)
    theirs = bootstrap((values,), np.mean, n_resamples=40_000, method="percentile", rng=np.random.default_rng(1))
    ours = bootstrap_interval(values, samples=40_000, seed=2)
    assert ours == pytest.approx(tuple(theirs.confidence_interval), abs=0.005)


def test_many_columns_at_once_get_what_each_gets_alone():
    rng = np.random.default_rng(9)
    table = pd.DataFrame({"a": rng.random(70), "b": rng.integers(0, 2, 70) * 1.0, "c": rng.normal(0, 0.1, 70)})
    together = bootstrap_intervals(table, samples=500, seed=6)
    p_values = paired_permutation_tests(table, samples=500, seed=6)
    for name, interval, p in zip(table, together, p_values, strict=True):
        assert bootstrap_interval(table[name], samples=500, seed=6) == pytest.approx(tuple(interval), abs=1e-12)
        assert paired_permutation_test(np.zeros(70), table[name], samples=500, seed=6) == p
    measured = estimates(table, samples=500, seed=6)
    assert measured["b"] == {"mean": pytest.approx(table["b"].mean()), "ci95": together[1].tolist()}


def test_the_seed_decides_the_result():
    values = np.random.default_rng(0).random(50)
    assert bootstrap_interval(values, samples=300, seed=4) == bootstrap_interval(values, samples=300, seed=4)
    assert bootstrap_interval(values, samples=300, seed=4) != bootstrap_interval(values, samples=300, seed=5)
    differences = values[:, None] - 0.45
    p_values = [paired_permutation_tests(differences, samples=300, seed=seed)[0] for seed in (1, 1, 2, 3)]
    assert p_values[0] == p_values[1] and len(set(p_values)) > 1


def test_interval_does_not_depend_on_the_size_of_the_blocks(monkeypatch):
    values = np.random.default_rng(0).random(50)
    whole = bootstrap_interval(values, samples=300, seed=4)
    p = paired_permutation_test(values, np.full(50, 0.55), samples=300, seed=4)
    monkeypatch.setattr(_resampling, "BLOCK", 351)  # 7 rows, an odd number
    assert bootstrap_interval(values, samples=300, seed=4) == pytest.approx(whole)
    assert paired_permutation_test(values, np.full(50, 0.55), samples=300, seed=4) == p


@pytest.mark.parametrize("value", [0.0, 0.5, 0.1, 1 / 3])
def test_interval_of_equal_values_is_a_point(value):
    assert bootstrap_interval([value] * 3, seed=0) == (value, value)
    assert estimates(pd.DataFrame({"em": [value] * 3}), seed=0) == {"em": {"mean": value, "ci95": [value, value]}}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "at least two queries; got 0"),
        ([1.0], "at least two queries; got 1. Add questions to the test split"),
        ([0.0, float("nan")], "1 of 2 values are NaN or infinite"),
        ([float("inf"), 0.0], "1 of 2 values are NaN or infinite"),
        ([[0.0, 1.0]], r"got values of shape \(1, 2\)"),
    ],
)
def test_what_has_no_interval_is_refused(values, message):
    for refuse in (bootstrap_interval, lambda given, seed: paired_permutation_test(given, given, seed=seed)):
        with pytest.raises(ValueError, match=message):
            refuse(values, seed=0)


def test_a_column_with_nan_is_named():
    table = pd.DataFrame({"fine": [0.0, 1.0], "broken": [0.0, float("nan")]})
    with pytest.raises(ValueError, match="1 of 4 values are NaN or infinite, in column 'broken'"):
        bootstrap_intervals(table, seed=0)
    with pytest.raises(ValueError, match="in column 'broken'"):
        compare_columns(table, [("a", "b", "fine"), ("a", "b", "broken")], seed=0)


def test_permutation_p_approaches_the_exact_one_over_all_sign_flips():
    differences = np.array([0.3, -0.1, 0.4, 0.2, 0.25, -0.05, 0.6, 0.1])
    sums = [abs(np.dot(signs, differences)) for signs in product((-1, 1), repeat=len(differences))]
    exact = np.mean(np.array(sums) >= abs(differences.sum()) - 1e-12)
    assert 0.02 < exact < 0.1
    assert paired_permutation_test(np.zeros(8), differences, samples=20_000, seed=0) == pytest.approx(exact, abs=0.006)


def test_permutation_p_is_uniform_when_the_systems_are_equal():
    rng = np.random.default_rng(7)
    p = np.sort([paired_permutation_test(rng.random(25), rng.random(25), samples=200, seed=n) for n in range(400)])
    # Kolmogorov-Smirnov distance to the uniform distribution; 1 % critical value is 1.63 / sqrt(400) = .08
    assert np.abs(p - (np.arange(400) + 0.5) / 400).max() < 0.08


def test_permutation_p_of_right_and_wrong_is_never_too_small_when_the_systems_are_equal():
    rng = np.random.default_rng(10)
    p = [paired_permutation_test(*rng.integers(0, 2, (2, 25)).astype(float), samples=200, seed=n) for n in range(600)]
    assert super_uniform(p)
    assert not super_uniform(np.asarray(p) * 0.7)  # the check itself sees p that are too small
    assert np.mean(np.asarray(p) <= 0.2) > 0.08  # and the test is no excuse for finding nothing


def test_permutation_p_of_many_equal_columns_is_uniform():
    from scipy.stats import kstest

    rng = np.random.default_rng(13)
    p = paired_permutation_tests(rng.normal(0, 1, (60, 500)), samples=4000, seed=1)
    assert kstest(p, "uniform").pvalue > 0.01


def test_permutation_p_is_never_zero_and_one_for_no_difference():
    assert paired_permutation_test(np.zeros(30), np.ones(30), samples=99, seed=0) == 1 / 100
    assert paired_permutation_test([0.5, 0.1], [0.5, 0.1], samples=99, seed=0) == 1.0


def test_permutation_needs_the_same_queries():
    with pytest.raises(ValueError, match="got 2 and 3"):
        paired_permutation_test([1, 2], [1, 2, 3], seed=0)


def test_p_of_groups_approaches_the_exact_one_over_all_labels():
    values = np.array([0.9, 0.7, 0.8, 0.95, 0.3, 0.5, 0.6, 0.2, 0.75, 0.4])
    inside = np.arange(10) < 4
    means = [
        values[list(chosen)].mean() - np.delete(values, list(chosen)).mean() for chosen in combinations(range(10), 4)
    ]
    difference = values[:4].mean() - values[4:].mean()
    exact = np.mean(np.abs(means) >= abs(difference) - 1e-12)
    assert 0.01 < exact < 0.1
    found, (low, high), p = difference_of_groups(values, inside, samples=20_000, seed=0)
    assert found == pytest.approx(difference) and low < found < high
    assert p == pytest.approx(exact, abs=0.006)


def test_groups_of_few_and_of_many_distinct_values_are_drawn_alike(monkeypatch):
    rng = np.random.default_rng(3)
    values = rng.integers(0, 3, 400) / 2
    inside = rng.random(400) < 0.2
    values[inside] += 0.15
    results = []
    for few in (True, False):
        monkeypatch.setattr(_resampling, "_few", lambda *_, few=few: few)
        results.append(difference_of_groups(values, inside, samples=20_000, seed=1))
    (first, first_ci, first_p), (second, second_ci, second_p) = results
    assert first == second and first_ci == pytest.approx(second_ci, abs=0.005)
    assert 0.001 < first_p < 0.2 and first_p == pytest.approx(second_p, abs=0.01)


@pytest.mark.parametrize("discrete", [False, True], ids=["even", "right or wrong"])
def test_p_of_groups_is_uniform_when_the_groups_are_alike(discrete):
    from scipy.stats import kstest

    rng = np.random.default_rng(21)
    p = []
    for n in range(500):
        values = rng.integers(0, 2, 60).astype(float) if discrete else rng.random(60)
        p.append(difference_of_groups(values, rng.permutation(60) < 15, samples=200, seed=n)[2])
    assert super_uniform(p)
    assert discrete or kstest(p, "uniform").pvalue > 0.01


def test_interval_of_the_difference_of_groups_covers_the_truth_in_93_to_97_percent():
    rng = np.random.default_rng(22)
    inside = np.arange(300) < 100
    covered = []
    for n in range(2000):
        values = (rng.random(300) < np.where(inside, 0.4, 0.6)).astype(float)
        low, high = difference_of_groups(values, inside, samples=500, seed=n)[1]
        covered.append(low <= -0.2 <= high)
    assert 0.93 <= np.mean(covered) <= 0.97


def test_groups_without_any_difference_have_a_point_and_p_of_one():
    for value in (0.0, 0.1):
        assert difference_of_groups([value] * 40, [True, False] * 20, samples=99, seed=0) == (0.0, (0.0, 0.0), 1.0)


@pytest.mark.parametrize(
    ("values", "inside", "message"),
    [
        ([0.0, 1.0, 0.5], [True, False], r"got 3 values and groups of shape \(2,\)"),
        ([0.0, 1.0, 0.5], [True, False, False], "got 1 inside and 2 outside"),
        ([0.0, 1.0, 0.5], [True, True, True], "got 3 inside and 0 outside"),
        ([0.0, 1.0, float("nan"), 1.0], [True, True, False, False], "1 of 4 values are NaN"),
    ],
)
def test_groups_that_cannot_be_compared_are_refused(values, inside, message):
    with pytest.raises(ValueError, match=message):
        difference_of_groups(values, inside, seed=0)


def test_holm_equals_the_example_worked_by_hand():
    # sorted .005 .01 .03 .04 times 4 3 2 1 = .02 .03 .06 .04, then never falling
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


def test_detectable_difference_is_found_with_the_promised_power():
    rng = np.random.default_rng(3)
    least = smallest_detectable_difference(rng.normal(0, 0.4, 2000)) * np.sqrt(2000 / 50)  # for 50 queries
    assert least == pytest.approx(2.8016 * 0.4 / np.sqrt(50), rel=0.05)
    found = [
        paired_permutation_test(np.zeros(50), rng.normal(least, 0.4, 50), samples=200, seed=n) < 0.05
        for n in range(300)
    ]
    assert 0.72 < np.mean(found) < 0.88


def test_difference_is_second_minus_first_whatever_the_order_of_rows():
    a, b = scores([0.0, 0.5, 0.2, 0.1]), scores([1.0, 0.5, 0.6, 0.9])
    (result,) = compare(a, b.iloc[::-1], names=("base", "tuned"), samples=200, seed=0)
    assert (result.a, result.b, result.metric) == ("base", "tuned", "ndcg@10")
    assert result.difference == pytest.approx((1.0 + 0 + 0.4 + 0.8) / 4)
    assert result.ci95[0] <= result.difference <= result.ci95[1]
    assert (result,) == tuple(compare(a.iloc[::-1], b, names=("base", "tuned"), samples=200, seed=0))


def test_metrics_of_one_comparison_are_corrected_together():
    a = pd.concat([scores([0.0] * 9), scores([0.0] * 9, "mrr@10")])
    b = pd.concat([scores([0.5] * 9), scores([0.5] * 8 + [-0.9], "mrr@10")])
    first, second = compare(a, b, samples=999, seed=0)
    assert first.p_holm == pytest.approx(2 * first.p) and second.p_holm == second.p
    doubled = correct_together([first, first, first, second])
    assert [entry.p_holm for entry in doubled][:3] == pytest.approx([4 * first.p] * 3)


def test_a_metric_of_some_queries_only_is_compared_on_these():
    a = pd.concat([scores([0.0, 0.1, 0.2, 0.5]), scores([0.3, 0.2], "mrr@10"), scores([0.1] * 4, "map@10")])
    b = a.assign(value=a["value"] + [0.1, 0.3, 0.2, 0.1, 0.2, 0.1, 0.0, 0.2, 0.1, 0.0])
    together = compare(a, b, samples=99, seed=0)
    assert [entry.metric for entry in together] == ["ndcg@10", "mrr@10", "map@10"]
    assert [entry.difference for entry in together] == pytest.approx([0.7 / 4, 0.15, 0.3 / 4])
    alone = [compare(a[a["metric"] == e.metric], b[b["metric"] == e.metric], samples=99, seed=0) for e in together]
    assert together == correct_together([entry for (entry,) in alone])


def test_systems_scored_on_other_queries_are_refused():
    with pytest.raises(ValueError, match=r"only one of them has .*'q2'"):
        compare(scores([0, 1]), scores([0, 1, 1]), seed=0)
    with pytest.raises(ValueError, match="two values"):
        compare(pd.concat([scores([0, 1])] * 2), scores([0, 1]), seed=0)


def test_comparison_cannot_be_changed():
    with pytest.raises(AttributeError):
        Comparison("a", "b", "mrr@10", 0.1, (0.0, 0.2), 0.01, 0.02).p = 0.0
