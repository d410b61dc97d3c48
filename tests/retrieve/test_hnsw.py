"""Approximate search: what it finds beside exact search, always k of it, and the same on every run."""

import faiss
import numpy as np
import pytest

from ragsmith.retrieve.exact import nearest
from ragsmith.retrieve.hnsw import Hnsw, HnswSettings


def clustered(rows: int, seed: int, dimension: int = 64) -> np.ndarray:
    """Unit vectors near centres in a space of few dimensions, as those of texts are; queries differ by their seed."""
    common, own = np.random.default_rng(0), np.random.default_rng(seed)
    centres, turned = common.normal(size=(50, 12)), common.normal(size=(12, dimension))
    near = centres[own.integers(50, size=rows)] + 0.5 * own.normal(size=(rows, 12))
    vectors = near @ turned + 0.3 * own.normal(size=(rows, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


PASSAGES, QUERIES = clustered(4000, seed=1), clustered(200, seed=2)


@pytest.fixture(scope="module")
def hnsw() -> Hnsw:
    return Hnsw(PASSAGES, HnswSettings())


@pytest.fixture
def threads():
    """Set the number of faiss' threads for one test."""
    before = faiss.omp_get_max_threads()
    yield faiss.omp_set_num_threads
    faiss.omp_set_num_threads(before)


def recall(found: np.ndarray, right: np.ndarray) -> float:
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, right, strict=True)]))


def same(one: Hnsw, other: Hnsw) -> bool:
    a, b = one.graph(), other.graph()
    return (
        np.array_equal(a.levels, b.levels)
        and np.array_equal(a.neighbors, b.neighbors)
        and a.entry_point == b.entry_point
    )


def test_default_settings_find_nearly_all_that_exact_search_finds(hnsw):
    assert recall(hnsw.search(QUERIES, 10)[1], nearest(QUERIES, PASSAGES, 10)[1]) >= 0.95


def test_more_candidates_find_more():
    def found(ef: int) -> float:
        few = Hnsw(PASSAGES, HnswSettings(M=4, efConstruction=8, efSearch=ef))
        return recall(few.search(QUERIES, 10)[1], nearest(QUERIES, PASSAGES, 10)[1])

    assert found(10) < found(40) < found(200)


def test_scores_are_exact_cosines_of_what_is_found_best_first(hnsw):
    scores, rows = hnsw.search(QUERIES, 10)
    assert scores.dtype == np.float32 and scores.shape == rows.shape == (200, 10)
    expected = np.einsum("qd,qkd->qk", QUERIES.astype(np.float64), PASSAGES[rows].astype(np.float64))
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert (np.diff(scores, axis=1) <= 0).all()
    assert all(len(set(row)) == 10 for row in rows)


def test_queries_are_found_the_same_alone_and_in_blocks(hnsw, monkeypatch):
    scores, rows = hnsw.search(QUERIES, 10)
    monkeypatch.setattr("ragsmith.retrieve.hnsw.BLOCK_BYTES", 3 * 128 * 64 * 4)
    blocks = hnsw.search(QUERIES, 10)
    assert np.array_equal(blocks[1], rows) and np.allclose(blocks[0], scores, atol=1e-6)
    alone = hnsw.search(QUERIES[7:8], 10)
    assert np.array_equal(alone[1], rows[7:8]) and np.allclose(alone[0], scores[7:8], atol=1e-6)


def test_same_vectors_give_the_same_graph_whatever_the_number_of_threads(hnsw, threads):
    for number in (1, 2, 2, 7):
        threads(number)
        assert same(Hnsw(PASSAGES, HnswSettings()), hnsw)


def test_other_vectors_give_another_graph(hnsw):
    assert not same(Hnsw(PASSAGES[::-1], HnswSettings()), hnsw)


@pytest.mark.parametrize("passages", [1, 2, 7, 128, 129, 300])
def test_few_passages_are_all_found(passages):
    index = Hnsw(PASSAGES[:passages], HnswSettings())
    scores, rows = index.search(QUERIES[:5], passages + 3 if passages < 128 else 10)
    expected = nearest(QUERIES[:5], PASSAGES[:passages], min(passages, 10))
    assert np.array_equal(rows, expected[1]) and np.allclose(scores, expected[0], atol=1e-6)


def test_as_many_are_found_as_are_asked_for_where_the_graph_leads_to_fewer():
    whole = Hnsw(PASSAGES, HnswSettings(M=2, efConstruction=1, efSearch=10))
    graph = whole.graph()
    graph.neighbors[:] = -1  # every passage an island
    cut = Hnsw(PASSAGES, HnswSettings(M=2, efConstruction=1, efSearch=10), graph)
    scores, rows = cut.search(QUERIES[:9], 10)
    expected = nearest(QUERIES[:9], PASSAGES, 10)
    assert np.array_equal(rows, expected[1]) and np.allclose(scores, expected[0], atol=1e-6)


def test_groups_that_lie_far_apart_are_both_found():
    random, side = np.random.default_rng(0), np.eye(64)[0]
    spread = 0.05 * random.normal(size=(8000, 64))
    groups = spread / np.linalg.norm(spread, axis=1, keepdims=True) * 0.05 + np.repeat([side, -side], 4000, axis=0)
    vectors = (groups / np.linalg.norm(groups, axis=1, keepdims=True)).astype(np.float32)
    index = Hnsw(vectors, HnswSettings())
    slots = faiss.vector_to_array(index.index.hnsw.cum_nneighbor_per_level)
    assert len(index.graph().unreached(slots)) == 0
    assert recall(index.search(vectors[::40], 10)[1], nearest(vectors[::40], vectors, 10)[1]) >= 0.9


def test_many_equal_passages_that_few_paths_lead_to_are_told_of(caplog):
    Hnsw(np.concatenate([PASSAGES, np.repeat(PASSAGES[:1], 1500, axis=0)]), HnswSettings(M=4))
    assert "passages few paths of the graph lead" in caplog.text and "Raise index.M" in caplog.text


def test_of_equal_passages_the_earlier_comes_first():
    index = Hnsw(np.repeat(PASSAGES[:300], 3, axis=0), HnswSettings())
    rows = index.search(PASSAGES[40:45], 3)[1]
    assert rows.tolist() == [[3 * number, 3 * number + 1, 3 * number + 2] for number in range(40, 45)]


def test_the_copy_that_is_walked_takes_a_byte_a_number(hnsw):
    assert faiss.downcast_index(hnsw.index.storage).code_size == 64


@pytest.mark.parametrize(
    "values", [{"M": 1}, {"M": 1000}, {"efSearch": 0}, {"efSearch": 10**9}, {"efConstruction": 2.5}, {"M": True}]
)
def test_numbers_that_no_graph_can_have_are_refused(values):
    with pytest.raises(ValueError, match=f"{next(iter(values))} is .*: it must be from"):
        HnswSettings(**values)
