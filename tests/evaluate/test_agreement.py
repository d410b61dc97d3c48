from itertools import combinations

import numpy as np
import pytest

from ragsmith.evaluate.agreement import fleiss_kappa, pairwise_agreement

# Ten things, fourteen judges, five categories: the table of Fleiss' method that textbooks work out, kappa 0.210.
TEXTBOOK = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]


def test_kappa_is_that_of_the_textbook():
    assert pairwise_agreement(TEXTBOOK) == pytest.approx(0.378, abs=5e-4)
    assert fleiss_kappa(TEXTBOOK) == pytest.approx(0.210, abs=5e-4)


def test_kappa_worked_out_by_hand():
    # Pairs: 3 of 3 and 1 of 3 agree. Shares 5/6 and 1/6, so chance agrees in 26/36.
    assert fleiss_kappa([[3, 0], [2, 1]]) == pytest.approx((2 / 3 - 26 / 36) / (1 - 26 / 36))


def test_agreement_is_the_share_of_equal_pairs_counted_one_by_one():
    rng = np.random.default_rng(0)
    judgements = rng.integers(0, 3, size=(20, 5))
    counts = np.stack([(judgements == category).sum(axis=1) for category in range(3)], axis=1)
    pairs = [first == second for row in judgements for first, second in combinations(row, 2)]
    assert pairwise_agreement(counts) == pytest.approx(np.mean(pairs))


def test_two_judges_give_scotts_pi():
    # Scott's pi of [a a, a b, b b, a a]: observed 3/4; shares 5/8 and 3/8.
    expected = (25 + 9) / 64
    assert fleiss_kappa([[2, 0], [1, 1], [0, 2], [2, 0]]) == pytest.approx((0.75 - expected) / (1 - expected))


def test_full_agreement_is_one_and_where_all_say_the_same_it_is_undefined():
    assert fleiss_kappa([[3, 0], [0, 3]]) == 1.0
    assert fleiss_kappa([[3, 0], [3, 0]]) is None
    assert pairwise_agreement([[3, 0], [3, 0]]) == 1.0


@pytest.mark.parametrize("counts", [[], [[]], [3, 0], [[3, 0], [2, 0]], [[1, 0], [0, 1]]])
def test_what_has_no_agreement_is_refused(counts):
    for measure in (pairwise_agreement, fleiss_kappa):
        with pytest.raises(ValueError, match="Agreement needs"):
            measure(counts)
