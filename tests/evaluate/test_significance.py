from itertools import product

import numpy as np
import pandas as pd
import pytest

from ragsmith.evaluate import significance
from ragsmith.evaluate.significance import (
    Comparison,
    bootstrap_interval,
    compare,
    correct_together,
    holm,
    paired_permutation_test,
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


def test_interval_does_not_depend_on_the_size_of_the_blocks(monkeypatch):
    values = np.random.default_rng(0).random(50)
    whole = bootstrap_interval(values, samples=300, seed=4)
    monkeypatch.setattr(significance, "_BLOCK", 500)
    assert bootstrap_interval(values, samples=300, seed=4) == pytest.approx(whole)


def test_interval_of_equal_values_is_a_point():
    assert bootstrap_interval([0.5, 0.5, 0.5], seed=0) == (0.5, 0.5)


@pytest.mark.parametrize("values", [[], [1.0], [0.0, float("nan")]])
def test_interval_of_too_little_is_refused(values):
    with pytest.raises(ValueError, match=r"at least two queries|NaN"):
        bootstrap_interval(values, seed=0)


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


def test_permutation_p_is_never_zero_and_one_for_no_difference():
    assert paired_permutation_test(np.zeros(30), np.ones(30), samples=99, seed=0) == 1 / 100
    assert paired_permutation_test([0.5, 0.1], [0.5, 0.1], samples=99, seed=0) == 1.0


def test_permutation_needs_the_same_queries():
    with pytest.raises(ValueError, match="got 2 and 3"):
        paired_permutation_test([1, 2], [1, 2, 3], seed=0)


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


def test_systems_scored_on_other_queries_are_refused():
    with pytest.raises(ValueError, match=r"only one of them has .*'q2'"):
        compare(scores([0, 1]), scores([0, 1, 1]), seed=0)
    with pytest.raises(ValueError, match="two values"):
        compare(pd.concat([scores([0, 1])] * 2), scores([0, 1]), seed=0)


def test_comparison_cannot_be_changed():
    with pytest.raises(AttributeError):
        Comparison("a", "b", "mrr@10", 0.1, (0.0, 0.2), 0.01, 0.02).p = 0.0
