import numpy as np
import pytest

from ragsmith.compute.device import Machine, probe
from ragsmith.retrieve import top_k as module
from ragsmith.retrieve.top_k import pair_scores, top_k

MACHINES = [Machine("cpu", "fp32"), Machine("cpu", "bf16")]
if probe().device == "cuda":
    MACHINES += [Machine("cuda", "fp32"), Machine("cuda", "bf16")]


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def scattered(rows: int, seed: int, dimension: int = 48) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(rows, dimension)))


def clustered(rows: int, seed: int, spread: float = 0.02) -> np.ndarray:
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(7, 48))
    return unit(centres[random.integers(7, size=rows)] + spread * random.normal(size=(rows, 48)))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few thousand vectors are many blocks, the last ones of odd size."""
    monkeypatch.setattr(module, "QUERY_BLOCK", 64)
    monkeypatch.setattr(module, "PASSAGE_BLOCK", 500)


def assert_as_faiss(queries: np.ndarray, vectors: np.ndarray, scores: np.ndarray, rows: np.ndarray) -> None:
    """Same scores; and each row has the score that stands beside it, so that only ties may be in another order."""
    import faiss

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    expected, _ = index.search(queries, scores.shape[1])
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    np.testing.assert_allclose((queries[:, None] * vectors[rows]).sum(axis=2), scores, atol=1e-6)
    assert all(len(set(row)) == len(row) for row in rows.tolist())


@pytest.mark.parametrize("machine", MACHINES, ids=str)
@pytest.mark.parametrize("k", [1, 10, 333])
@pytest.mark.parametrize("kind", [scattered, clustered])
def test_it_finds_what_faiss_finds(machine: Machine, k: int, kind) -> None:
    queries, vectors = kind(150, 1), kind(3333, 2)
    assert_as_faiss(queries, vectors, *top_k(queries, vectors, k, machine))


@pytest.mark.parametrize("machine", MACHINES, ids=str)
def test_vectors_that_bfloat16_cannot_tell_apart_are_told_apart(machine: Machine) -> None:
    random = np.random.default_rng(3)
    vectors = unit(np.ones((2000, 48)) + 1e-4 * random.normal(size=(2000, 48)))
    queries = unit(np.ones((5, 48)) + 0.5 * random.normal(size=(5, 48)))
    assert_as_faiss(queries, vectors, *top_k(queries, vectors, 10, machine))


@pytest.mark.parametrize("machine", MACHINES, ids=str)
def test_of_equal_scores_the_first_rows_are_taken(machine: Machine) -> None:
    vectors = np.repeat(scattered(6, 4), 3, axis=0)
    _, rows = top_k(vectors[:1], vectors, 2, machine)
    assert rows.tolist() == [[0, 1]]


@pytest.mark.parametrize("machine", MACHINES, ids=str)
def test_only_the_rows_asked_for_are_searched(machine: Machine) -> None:
    queries, vectors = scattered(70, 5), scattered(2000, 6)
    among = np.random.default_rng(7).permutation(2000)[:700]
    scores, rows = top_k(queries, vectors, 20, machine, among)
    assert set(rows.ravel()) <= set(among)
    assert_as_faiss(queries, vectors[among], scores, np.argsort(among)[np.searchsorted(np.sort(among), rows)])


def test_k_is_cut_to_what_there_is() -> None:
    vectors = scattered(5, 8)
    scores, rows = top_k(vectors[:2], vectors, 9, MACHINES[0])
    assert scores.shape == rows.shape == (2, 5) and sorted(rows[0]) == [0, 1, 2, 3, 4]
    assert top_k(vectors[:2], vectors, 9, MACHINES[0], np.empty(0, dtype=np.int64))[1].shape == (2, 0)
    assert top_k(vectors[:0], vectors, 9, MACHINES[0])[1].shape == (0, 5)


def test_scores_below_zero_are_ranked_too() -> None:
    vectors = scattered(40, 9, 2)
    scores, _ = top_k(vectors[:3], vectors, 40, MACHINES[1])
    assert (np.diff(scores, axis=1) <= 0).all() and scores.min() < 0


@pytest.mark.parametrize("machine", MACHINES, ids=str)
@pytest.mark.parametrize("k", [3, 700, 2500])
def test_the_nearest_may_all_lie_on_the_other_side(machine: Machine, k: int) -> None:
    vectors, queries = scattered(2999, 5), scattered(70, 6)
    vectors[:, 0], queries[:, 0] = 1 + np.abs(vectors[:, 0]), -9
    vectors, queries = unit(vectors), unit(queries)
    scores, rows = top_k(queries, vectors, k, machine)
    assert scores[:, -1].max() < 0
    assert_as_faiss(queries, vectors, scores, rows)


def test_vectors_of_another_model_are_refused() -> None:
    with pytest.raises(ValueError, match="have 3 dimensions and the index 48"):
        top_k(scattered(2, 1, 3), scattered(5, 1), 2, MACHINES[0])
    with pytest.raises(ValueError, match="k is 0"):
        top_k(scattered(2, 1), scattered(5, 1), 0, MACHINES[0])


def test_pairs_are_multiplied_where_there_is_one() -> None:
    queries, vectors = scattered(3, 1), scattered(9, 2)
    rows = np.asarray([[0, 8], [4, -1], [-1, -1]])
    found = pair_scores(queries, vectors, rows)
    assert found[0, 1] == pytest.approx(queries[0] @ vectors[8], abs=1e-6)
    assert found[1, 0] == pytest.approx(queries[1] @ vectors[4], abs=1e-6)
    assert np.isneginf(found[rows < 0]).all() and found.shape == (3, 2)
