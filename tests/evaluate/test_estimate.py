import numpy as np
import pytest

from ragsmith.evaluate.estimate import estimate
from ragsmith.evaluate.significance import bootstrap_interval


@pytest.mark.parametrize("values", [[0.0, 1.0] * 100, np.random.default_rng(0).random(60), [0.25] * 9])
def test_interval_is_that_of_resampled_queries(values):
    found = estimate(values, seed=1)
    assert found["mean"] == pytest.approx(np.mean(values))
    assert found["ci95"] == pytest.approx(bootstrap_interval(values, seed=2), abs=0.01)


def test_interval_does_not_depend_on_the_order_of_right_and_wrong():
    assert estimate([1, 0, 1, 1, 0] * 20, seed=0) == estimate([0, 0, 1, 1, 1] * 20, seed=0)


def test_a_mean_of_equal_scores_lies_in_its_interval_to_the_last_digit():
    assert estimate([0.1] * 30, samples=50, seed=0) == {"mean": 0.1, "ci95": [0.1, 0.1]}


def test_one_query_alone_tells_nothing():
    assert estimate([1.0], seed=0) == {"mean": 1.0, "ci95": [0.0, 1.0]}


@pytest.mark.parametrize(
    ("values", "message"),
    [([], "at least one query"), ([0.5, float("nan"), 2], "2 of 3 scores .* nan, in row 1"), ([-0.1], "1 of 1")],
)
def test_what_is_no_score_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        estimate(values, seed=0)
