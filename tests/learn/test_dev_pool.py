import numpy as np
import pandas as pd
import pytest

from ragsmith.learn import dev_pool
from ragsmith.learn.dev_pool import dev_set
from ragsmith.retrieve.index import DenseIndex

COUNT = 200


@pytest.fixture
def corpus() -> pd.DataFrame:
    ids = [f"p{number:03}" for number in range(COUNT)]
    return pd.DataFrame({"passage_id": ids, "title": "t", "text": [f"About {name}" for name in ids]})


@pytest.fixture
def index(corpus) -> DenseIndex:
    """Passages on a half circle: the nearest of p000 are p001, p002, …"""
    angles = np.linspace(0, np.pi, COUNT)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    return DenseIndex(corpus["passage_id"].tolist(), vectors)


@pytest.fixture
def dev_queries() -> pd.DataFrame:
    return pd.DataFrame({"query_id": ["judged", "unjudged"], "text": ["the question", "another"]})


@pytest.fixture
def qrels() -> pd.DataFrame:
    rows = [("judged", "p150", 2), ("judged", "p151", 1), ("judged", "p190", 0), ("train question", "p180", 1)]
    return pd.DataFrame(rows, columns=["query_id", "passage_id", "grade"])


VECTORS = np.array([[1, 0], [-1, 0]], dtype=np.float32)


def test_pool_has_right_and_nearest_passages_and_no_more_when_it_is_small(dev_queries, qrels, corpus, index):
    dev = dev_set(dev_queries, VECTORS, qrels, corpus, index, size=10, seed=0)
    nearest = [f"p{number:03}" for number in range(dev_pool.NEIGHBOURS)]
    assert dev.passage_ids == [*nearest, "p150", "p151"]
    assert dev.passages[0] == "t\nAbout p000"


def test_questions_without_right_passage_are_left_out(dev_queries, qrels, corpus, index):
    dev = dev_set(dev_queries, VECTORS, qrels, corpus, index, size=10, seed=0)
    assert dev.texts == ["the question"] and dev.relevant == [{"p150", "p151"}]


def test_random_passages_fill_the_pool_the_same_ones_for_the_same_seed(dev_queries, qrels, corpus, index):
    pools = [dev_set(dev_queries, VECTORS, qrels, corpus, index, size=80, seed=seed).passage_ids for seed in (0, 0, 1)]
    assert pools[0] == pools[1] != pools[2]
    assert len(pools[0]) == 80 == len(set(pools[0])) and pools[0] == sorted(pools[0])


def test_pool_is_the_whole_corpus_when_that_is_smaller(dev_queries, qrels, corpus, index):
    assert len(dev_set(dev_queries, VECTORS, qrels, corpus, index, size=9999, seed=0).passage_ids) == COUNT


def test_without_judged_question_training_is_refused(dev_queries, qrels, corpus, index):
    with pytest.raises(ValueError, match="no dev question with a right passage"):
        dev_set(dev_queries, VECTORS, qrels[qrels["grade"] == 0], corpus, index, size=10, seed=0)
