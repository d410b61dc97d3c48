import json
from pathlib import Path

import numpy as np
import pytest

from ragsmith.retrieve.hnsw import HnswSettings
from ragsmith.retrieve.index import RUN_COLUMNS, DenseIndex, IndexSettings, saved_settings


def unit(rows: int, dimension: int = 8, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(params=["flat", "hnsw"])
def index(request: pytest.FixtureRequest) -> DenseIndex:
    # Fewer candidates than passages: else every search would be exact.
    hnsw = HnswSettings(M=8, efConstruction=16, efSearch=16) if request.param == "hnsw" else None
    return DenseIndex([f"p{number}" for number in range(20)], unit(20), hnsw)


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
    assert again.kind == index.kind and again.hnsw == index.hnsw
    assert np.array_equal(again.search(unit(5, seed=1), 7)[1], index.search(unit(5, seed=1), 7)[1])


def test_an_index_whose_parts_do_not_fit_is_refused(index: DenseIndex, tmp_path: Path) -> None:
    index.save(tmp_path, "abc")
    np.save(tmp_path / "vectors.npy", index.vectors[:-1])
    with pytest.raises(ValueError, match=r"is no whole index: vectors \(19, 8\), 20 ids"):
        DenseIndex.load(tmp_path)


def test_a_pickled_array_is_refused(index: DenseIndex, tmp_path: Path) -> None:
    index.save(tmp_path, "abc")
    np.save(tmp_path / "vectors.npy", np.asarray([{"code": "runs"}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"allow_pickle=False|Python objects in dtype"):
        DenseIndex.load(tmp_path)


@pytest.mark.parametrize(
    "content", ["[]", "{}", "{", '{"dimension": "8", "passage_ids": []}', '{"dimension": 8, "passage_ids": 3}']
)
def test_a_description_that_is_none_is_refused_with_its_file(index: DenseIndex, tmp_path: Path, content: str) -> None:
    index.save(tmp_path, "model")
    (tmp_path / "index.json").write_text(content, "utf-8")
    for read in (DenseIndex.load, saved_settings):
        with pytest.raises(ValueError, match=r"index\.json is no description of an index .*Build the index again"):
            read(tmp_path)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_vectors_that_are_not_finite_are_refused(tmp_path: Path, number: float) -> None:
    index = DenseIndex([f"p{place}" for place in range(20)], unit(20), None)
    index.save(tmp_path, "model")
    vectors = index.vectors.copy()
    vectors[3, 2] = number
    np.save(tmp_path / "vectors.npy", vectors)
    with pytest.raises(ValueError, match=r"vectors\.npy holds numbers that are not finite"):
        DenseIndex.load(tmp_path)


def test_a_truncated_array_is_refused(index: DenseIndex, tmp_path: Path) -> None:
    index.save(tmp_path, "abc")
    whole = (tmp_path / "vectors.npy").read_bytes()
    (tmp_path / "vectors.npy").write_bytes(whole[:-4])
    with pytest.raises(ValueError, match=r"not fully written|mmap length is greater than file size"):
        DenseIndex.load(tmp_path)


def test_loaded_vectors_can_be_written_to_and_their_file_stays_as_it_is(index: DenseIndex, tmp_path: Path) -> None:
    index.save(tmp_path, "abc")
    again = DenseIndex.load(tmp_path)
    assert type(again.vectors) is np.ndarray and again.vectors.flags.writeable
    again.vectors[0] = 0
    assert np.array_equal(np.load(tmp_path / "vectors.npy"), index.vectors)


def test_other_vectors_are_searched_by_the_same_kind(index: DenseIndex, tmp_path: Path) -> None:
    index.save(tmp_path, "abc")
    other = DenseIndex.load(tmp_path).with_vectors(unit(20, seed=5))
    assert (other.passage_ids, other.hnsw) == (index.passage_ids, index.hnsw)
    assert other.run(["a"], unit(20, seed=5)[[4]], 1)["passage_id"].tolist() == ["p4"]


def test_kind_is_chosen_by_size_unless_it_is_named() -> None:
    graph = HnswSettings(M=16)
    auto = IndexSettings("auto", flat_up_to=5, hnsw=graph)
    assert [auto.chosen(passages) for passages in (1, 5, 6)] == [None, None, graph]
    assert IndexSettings().chosen(1_000_000) is None and IndexSettings().chosen(1_000_001) == HnswSettings()
    assert IndexSettings("hnsw", hnsw=graph).chosen(1) is graph and IndexSettings("flat").chosen(10**9) is None


def test_saved_kind_serves_to_build_another(index: DenseIndex, tmp_path: Path) -> None:
    index.save(tmp_path, "abc")
    assert saved_settings(tmp_path).chosen(3) == index.hnsw


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "ivf"}, r"index\.json: unknown kind 'ivf'\. There are: flat, hnsw"),
        ({"kind": "hnsw"}, r"its `hnsw` cannot be used \('hnsw'\)"),
        ({"kind": "hnsw", "hnsw": {"M": 10**9}}, "M is 1000000000: it must be from 2 to 256"),
        ({"kind": "hnsw", "hnsw": {"nprobe": 3}}, "cannot be used .*nprobe"),
        ({"kind": "hnsw", "hnsw": 7}, "cannot be used"),
    ],
)
def test_kind_that_cannot_be_is_refused(tmp_path: Path, values: dict[str, object], message: str) -> None:
    DenseIndex(["p1"], unit(1)).save(tmp_path, "abc")
    meta = json.loads((tmp_path / "index.json").read_text())
    (tmp_path / "index.json").write_text(json.dumps(meta | values))
    with pytest.raises(ValueError, match=message):
        DenseIndex.load(tmp_path)


def test_index_from_before_there_were_kinds_is_flat(tmp_path: Path) -> None:
    DenseIndex(["p1"], unit(1)).save(tmp_path, "abc")
    meta = json.loads((tmp_path / "index.json").read_text())
    del meta["kind"]
    (tmp_path / "index.json").write_text(json.dumps(meta))
    assert DenseIndex.load(tmp_path).kind == "flat"


def test_a_header_that_promises_more_than_there_is_is_refused_unread(index: DenseIndex, tmp_path: Path) -> None:
    index.save(tmp_path, "abc")
    with (tmp_path / "vectors.npy").open("wb") as file:
        np.lib.format.write_array_header_2_0(file, {"descr": "<f4", "fortran_order": False, "shape": (10**15, 4)})
    with pytest.raises(ValueError, match=r"vectors\.npy is damaged"):
        DenseIndex.load(tmp_path)
