import math
import random

import pandas as pd
import pytest

from ragsmith.evaluate.retrieval import score_run
from ragsmith.learn.ranking import ndcg


def test_right_passage_at_the_third_place_gives_one_half():
    assert ndcg([["a", "b", "right"]], [{"right"}]) == pytest.approx(1 / math.log2(4))


def test_what_stands_below_the_depth_does_not_count():
    assert ndcg([["a", "b", "right"]], [{"right"}], k=2) == 0


def test_more_right_passages_than_the_depth_can_still_give_one():
    assert ndcg([["a", "b"]], [{"a", "b", "c"}], k=2) == 1


def test_nothing_found_counts_as_zero_in_the_mean():
    assert ndcg([["a"], []], [{"a"}, {"b"}]) == 0.5


def test_score_equals_that_of_the_evaluation_on_random_rankings():
    chance = random.Random(0)
    ids = [f"p{number:02}" for number in range(30)]
    ranked = [chance.sample(ids, chance.randint(1, 20)) for _ in range(40)]
    relevant = [set(chance.sample(ids, chance.randint(1, 14))) for _ in range(40)]
    run = pd.DataFrame(
        [(f"q{q}", p, 1.0 / rank, rank) for q, row in enumerate(ranked) for rank, p in enumerate(row, 1)],
        columns=["query_id", "passage_id", "score", "rank"],
    )
    qrels = pd.DataFrame(
        [(f"q{q}", p, 1) for q, right in enumerate(relevant) for p in sorted(right)],
        columns=["query_id", "passage_id", "grade"],
    )
    expected = score_run(run, qrels, ["ndcg@10"])["value"].mean()
    assert ndcg(ranked, relevant, k=10) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("ranked", "relevant"), [([], []), ([["a"]], [set()])])
def test_query_without_right_passage_is_refused(ranked, relevant):
    with pytest.raises(ValueError, match="a right passage for each"):
        ndcg(ranked, relevant)
