import json
from pathlib import Path

import numpy as np
import pytest

from ragsmith.retrieve.index import RUN_COLUMNS, DenseIndex


def unit(rows: int, dimension: int = 8, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def index() -> DenseIndex:
    return DenseIndex([f"p{number}" for number in range(20)], unit(20))


def test_search_finds_what_a_full_sort_finds(index: DenseIndex) -> None:
    queries = unit(5, seed=1)
    scores, rows = index.search(queries, 7)
    cosines = queries @ index.vectors.T
    expected = np.argsort(-cosines, axis=1)[:, :7]
    assert (rows == expected).all()
    np.testing.assert_allclose(scores, np.take_along_axis(cosines, expected, axis=1), atol=1e-6)


def test_a_run_names_the_passages_best_first(index: DenseIndex) -> None:
    run = index.run(["a", "b"], index.vectors[[3, 9]], k=2)
    assert run.columns.tolist() == RUN_COLUMNS
    assert run["query_id"].tolist() == ["a", "a", "b", "b"] and run["rank"].tolist() == [1, 2, 1, 2]
    assert run["passage_id"].tolist()[::2] == ["p3", "p9"]
    assert run["score"].tolist()[::2] == pytest.approx([1, 1], abs=1e-6)


def test_k_is_cut_to_the_number_of_passages(index: DenseIndex) -> None:
    assert index.search(unit(1), 100)[0].shape == (1, 20)


def test_no_queries_give_no_rows(index: DenseIndex) -> None:
    assert index.run([], np.zeros((0, 8), dtype=np.float32), 3).empty


def test_vectors_of_another_model_are_an_error(index: DenseIndex) -> None:
    with pytest.raises(ValueError, match="9 dimensions and the index 8"):
        index.search(unit(1, dimension=9), 3)


def test_what_is_saved_is_what_is_loaded(index: DenseIndex, tmp_path: Path) -> None:
    index.save(tmp_path, "abc")
    again = DenseIndex.load(tmp_path)
    assert again.passage_ids == index.passage_ids
    assert np.array_equal(again.vectors, index.vectors)
    assert json.loads((tmp_path / "index.json").read_text("utf-8"))["model"] == "abc"


def test_an_index_whose_parts_do_not_fit_is_refused(index: DenseIndex, tmp_path: Path) -> None:
    index.save(tmp_path, "abc")
    np.save(tmp_path / "vectors.npy", index.vectors[:-1])
    with pytest.raises(ValueError, match=r"is no whole index: vectors \(19, 8\), 20 ids"):
        DenseIndex.load(tmp_path)


def test_a_pickled_array_is_refused(index: DenseIndex, tmp_path: Path) -> None:
    index.save(tmp_path, "abc")
    np.save(tmp_path / "vectors.npy", np.asarray([{"code": "runs"}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        DenseIndex.load(tmp_path)


def test_a_truncated_array_is_refused(index: DenseIndex, tmp_path: Path) -> None:
    index.save(tmp_path, "abc")
    whole = (tmp_path / "vectors.npy").read_bytes()
    (tmp_path / "vectors.npy").write_bytes(whole[:-4])
    with pytest.raises(ValueError, match="not fully written"):
        DenseIndex.load(tmp_path)
