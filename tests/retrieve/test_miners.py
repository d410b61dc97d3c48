import numpy as np
import pytest

from ragsmith.compute.device import Machine
from ragsmith.retrieve.keys import text_keys
from ragsmith.retrieve.miners import Miner, fuse, random_rows

CPU = Machine("cpu", "fp32")
TEXTS = ["copy a file", "copy a whole tree of files", "sort a list", "a file is read", "nothing alike"]
VECTORS = np.eye(5, 4, dtype=np.float32)
QUERY = np.asarray([[0.1, 0.2, 0.9, 0.3]], dtype=np.float32)


def ranked(name, pool=range(5), k=3, text="copy file"):
    miner = Miner(name, VECTORS, np.asarray(pool, dtype=np.int64), TEXTS, 0, CPU)
    rows, cosines = miner.rank(QUERY, [text], text_keys(["q"]), k)
    for row, cosine in zip(rows[0], cosines[0], strict=True):
        assert cosine == (pytest.approx(float(QUERY[0] @ VECTORS[row])) if row >= 0 else -np.inf)
    return rows[0].tolist()


def test_each_miner_ranks_in_its_way():
    assert ranked("dense") == [2, 3, 1]
    assert ranked("bm25") == [0, 3, 1] or ranked("bm25") == [0, 1, 3]
    assert ranked("hybrid", k=5)[0] in (1, 3)  # both rankings have them
    assert sorted(ranked("random", k=5)) == [0, 1, 2, 3, 4]


def test_only_the_pool_is_ranked_and_what_is_missing_is_minus_one():
    assert ranked("dense", [4, 0]) == [0, 4, -1]
    assert ranked("bm25", [4, 1, 2]) == [1, -1, -1]
    assert ranked("hybrid", [4, 1]) == [1, 4, -1]
    assert sorted(ranked("random", [4, 1])) == [-1, 1, 4]
    assert ranked("bm25", [4, 1], text="unheard of") == [-1, -1, -1] or ranked("bm25", [4, 1], text="of")[0] == 1
    for name in ("dense", "bm25", "hybrid", "random"):
        assert ranked(name, []) == [-1, -1, -1]


def test_fusion_is_that_of_the_search():
    import pandas as pd

    from ragsmith.retrieve.fusion import reciprocal_rank_fusion

    random = np.random.default_rng(0)
    one, other = (np.stack([random.permutation(30)[:12] for _ in range(20)]) for _ in range(2))
    runs = [
        pd.DataFrame(
            [
                (f"{query:02}", f"{row:02}", rank)
                for query, found in enumerate(rows)
                for rank, row in enumerate(found, 1)
            ],
            columns=["query_id", "passage_id", "rank"],
        )
        for rows in (one, other)
    ]
    expected = reciprocal_rank_fusion(runs, depth=15).groupby("query_id")["passage_id"].agg(list)
    fused = fuse(one, other, 15)
    scores = {query: [int(name) for name in names] for query, names in expected.items()}
    assert [row[row >= 0].tolist() for row in fused] == [scores[f"{query:02}"] for query in range(20)]


@pytest.mark.parametrize("size", [3, 40, 10_000])
def test_random_rows_are_of_the_pool_differ_and_depend_on_the_query_and_the_seed_alone(size):
    pool, keys = np.arange(size) * 2 + 7, text_keys([f"q{number}" for number in range(200)])
    rows = random_rows(pool, keys, 30, 0)
    assert rows.shape == (200, 30) and set(rows.ravel()) <= {*pool.tolist(), -1}
    assert all(len(set(row[row >= 0])) == min(size, 30) for row in rows)
    assert (random_rows(pool, keys[5:9], 30, 0) == rows[5:9]).all() and (random_rows(pool, keys, 30, 1) != rows).any()


def test_every_passage_is_drawn_about_as_often_as_any_other():
    rows = random_rows(np.arange(1000), text_keys([str(number) for number in range(4000)]), 50, 3)
    counts = np.bincount(rows.ravel(), minlength=1000)
    assert abs(counts.mean() - 200) < 1e-9 and counts.min() > 140 and counts.max() < 270
