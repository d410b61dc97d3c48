import numpy as np
import pytest

from ragsmith.evaluate.group_differences import group_intervals, group_permutation_tests
from ragsmith.evaluate.significance import difference_of_groups

RNG = np.random.default_rng(0)
VALUES = np.column_stack([RNG.random(300) < 0.4, RNG.random(300)]).astype(float)
INSIDE = np.stack([RNG.random(300) < share for share in (0.1, 0.35, 0.5, 0.8)])
VALUES[INSIDE[1], 0] *= RNG.random(int(INSIDE[1].sum())) < 0.6  # one group is really worse


def test_p_values_are_those_of_one_group_at_a_time():
    together = group_permutation_tests(VALUES, INSIDE, samples=20_000, seed=1)
    for group, mask in enumerate(INSIDE):
        for metric in range(2):
            _, _, alone = difference_of_groups(VALUES[:, metric], mask, samples=20_000, seed=2)
            assert together[group, metric] == pytest.approx(alone, abs=0.015)
    assert together[1, 0] < 0.05 < together[0, 0]


def test_intervals_are_those_of_one_group_at_a_time():
    together = group_intervals(VALUES, INSIDE, samples=20_000, seed=1)
    for group, mask in enumerate(INSIDE):
        for metric in range(2):
            _, alone, _ = difference_of_groups(VALUES[:, metric], mask, samples=20_000, seed=2)
            assert together[group, metric] == pytest.approx(alone, abs=0.01)


def test_p_of_two_in_five_is_the_exact_one():
    values = np.array([[0.0], [0.0], [1.0], [1.0], [1.0]])
    inside = np.array([[True, True, False, False, False]])
    # Of the 10 pairs one is as far below; none is as far above.
    assert group_permutation_tests(values, inside, samples=50_000, seed=0)[0, 0] == pytest.approx(0.1, abs=0.005)


def test_p_is_one_where_all_values_are_equal_and_never_zero():
    equal = np.full((40, 1), 0.3)
    inside = np.arange(40)[None] < 20
    assert group_permutation_tests(equal, inside, samples=99, seed=0)[0, 0] == 1
    assert group_permutation_tests(inside.T.astype(float), inside, samples=99, seed=0)[0, 0] == 1 / 100


def test_p_is_uniform_where_groups_are_equal():
    rng = np.random.default_rng(5)
    p = np.sort(
        [
            group_permutation_tests(rng.random((30, 1)), np.arange(30)[None] < 9, samples=199, seed=n)[0, 0]
            for n in range(400)
        ]
    )
    assert np.abs(p - (np.arange(400) + 0.5) / 400).max() < 0.0815  # Kolmogorov-Smirnov at 1 %


def test_resamples_without_a_query_of_the_group_are_left_out():
    values, inside = np.arange(20.0)[:, None] / 20, np.zeros((1, 20), dtype=bool)
    inside[0, :2] = True  # of a hundred resamples, about twelve hold neither
    low, high = group_intervals(values, inside, samples=2000, seed=0)[0, 0]
    assert -1 <= low < high < 0
