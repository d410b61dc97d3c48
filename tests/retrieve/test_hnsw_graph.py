"""A graph from disk is followed only where it is what was written, and cannot lead out of memory."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ragsmith.retrieve.hnsw import HnswSettings
from ragsmith.retrieve.hnsw_graph import LEVELS, NEIGHBORS, HnswGraph
from ragsmith.retrieve.index import DenseIndex

SETTINGS = HnswSettings(M=4, efConstruction=20, efSearch=20)
SLOTS = 8  # of the lowest level


def unit(rows: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, 16)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


VECTORS, QUERIES = unit(500, 0), unit(20, 1)


@pytest.fixture
def index() -> DenseIndex:
    return DenseIndex([f"p{number}" for number in range(500)], VECTORS, SETTINGS)


@pytest.fixture
def folder(index: DenseIndex, tmp_path: Path) -> Path:
    index.save(tmp_path, "abc")
    return tmp_path


def read(folder: Path) -> HnswGraph:
    graph = json.loads((folder / "index.json").read_text())["graph"]
    return HnswGraph(np.load(folder / LEVELS), np.load(folder / NEIGHBORS), graph["entry_point"])


def forge(folder: Path, graph: HnswGraph) -> None:
    """Write a graph with a hash that fits, as someone would who wants it to be believed."""
    meta = json.loads((folder / "index.json").read_text())
    meta["graph"] = graph.save(folder)
    (folder / "index.json").write_text(json.dumps(meta))


def test_graph_is_read_back_and_not_built_again(folder, index, caplog, monkeypatch):
    expected = index.search(QUERIES, 10)
    again = DenseIndex.load(folder)
    monkeypatch.setattr("faiss.IndexHNSW.add", None)  # building would fail
    scores, rows = again.search(QUERIES, 10)
    assert np.array_equal(rows, expected[1]) and np.array_equal(scores, expected[0])
    assert not caplog.records
    assert sorted(path.name for path in folder.iterdir()) == [LEVELS, NEIGHBORS, "index.json", "vectors.npy"]


def test_graph_on_disk_is_the_one_that_is_searched(folder, index):
    """Else the tests below would prove nothing: a graph without links is followed nowhere."""
    graph = read(folder)
    forge(folder, replace(graph, neighbors=np.full_like(graph.neighbors, -1)))
    again = DenseIndex.load(folder)
    again.prepare()
    assert (again._graph.graph().neighbors == -1).all()


def short(name: str, lost: int) -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:-lost])

    return cut


def missing(folder: Path) -> None:
    (folder / NEIGHBORS).unlink()


def empty(folder: Path) -> None:
    (folder / LEVELS).write_bytes(b"")


def pickled(folder: Path) -> None:
    np.save(folder / LEVELS, np.asarray([{"code": "runs"}], dtype=object), allow_pickle=True)


def promising(folder: Path) -> None:
    """A header that promises more numbers than there is memory."""
    content = (folder / NEIGHBORS).read_bytes()
    shape = content[content.index(b"(") : content.index(b")") + 1]
    longer = f"({10**15},)".encode()
    header = content[:128].replace(shape, longer)
    (folder / NEIGHBORS).write_bytes(header[: len(header) - 1 - (len(longer) - len(shape))] + b"\n" + content[128:])


def turned(folder: Path) -> None:
    """A link that leads elsewhere, but to a passage that exists."""
    graph = read(folder)
    graph.neighbors[0] = (graph.neighbors[0] + 1) % 500
    np.save(folder / NEIGHBORS, graph.neighbors)


def untold(folder: Path) -> None:
    meta = json.loads((folder / "index.json").read_text())
    del meta["graph"]
    (folder / "index.json").write_text(json.dumps(meta))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (short(NEIGHBORS, 4), "hnsw_neighbors.npy cannot be read"),
        (short(LEVELS, 1), "hnsw_levels.npy cannot be read"),
        (short(LEVELS, 2100), "hnsw_levels.npy cannot be read"),
        (missing, "hnsw_neighbors.npy cannot be read"),
        (empty, "hnsw_levels.npy cannot be read"),
        (pickled, "hnsw_levels.npy cannot be read"),
        (promising, "hnsw_neighbors.npy cannot be read"),
        (turned, "is not what was written"),
        (untold, "does not tell the entry point"),
    ],
)
def test_damaged_graph_is_built_again_and_the_log_says_why(folder, index, caplog, damage, reason):
    damage(folder)
    scores, rows = DenseIndex.load(folder).search(QUERIES, 10)
    expected = index.search(QUERIES, 10)
    assert np.array_equal(rows, expected[1]) and np.array_equal(scores, expected[0])
    assert f"The graph in {folder} is damaged: " in caplog.text and reason in caplog.text
    assert "built again from vectors" in caplog.text


def set_to(name: str, place: int, value: int) -> Callable[[HnswGraph], HnswGraph]:
    def change(graph: HnswGraph) -> HnswGraph:
        array = getattr(graph, name).copy()
        array[place] = value
        return replace(graph, **{name: array})

    return change


def astray(graph: HnswGraph) -> HnswGraph:
    """A link of an upper level to a passage that is in the lowest alone: its links there would be another's."""
    upper, lower = int(np.argmax(graph.levels > 1)), int(np.argmax(graph.levels == 1))
    begin = int(sum(SLOTS + 4 * (level - 1) for level in graph.levels[:upper]))
    return set_to("neighbors", begin + SLOTS, lower)(graph)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (set_to("neighbors", 3, 500), "leads to -1 and 500: there are 500"),
        (set_to("neighbors", -1, 2**31 - 1), "leads to -1 and 2147483647"),
        (set_to("neighbors", 0, -2), "leads to -2"),
        (set_to("neighbors", 0, -(2**31)), "leads to -2147483648"),
        (set_to("levels", 0, 0), "holds 0 to"),
        (set_to("levels", 499, 10**6), "1000000 in place of 1 to"),
        (set_to("levels", 10, -5), "holds -5 to"),
        (astray, "leads, in level 1, to passages that are not in it"),
        (lambda graph: replace(graph, neighbors=graph.neighbors[:-4]), "numbers in place of"),
        (
            lambda graph: replace(graph, neighbors=np.append(graph.neighbors, graph.neighbors[:4])),
            "numbers in place of",
        ),
        (lambda graph: replace(graph, neighbors=graph.neighbors.astype(np.int64)), "npy holds int64"),
        (lambda graph: replace(graph, neighbors=graph.neighbors[:, None]), ", 1) in place of one row"),
        (lambda graph: replace(graph, levels=graph.levels[:-1]), "holds 499 numbers in place of 500"),
        (lambda graph: replace(graph, levels=graph.levels.astype(np.float32)), "npy holds float32"),
        (lambda graph: replace(graph, entry_point=500), "entry point 500"),
        (lambda graph: replace(graph, entry_point=-1), "entry point -1"),
        (lambda graph: replace(graph, entry_point=int(np.argmin(graph.levels))), "is not in the highest level"),
    ],
)
def test_forged_graph_is_not_followed(folder, index, caplog, change, reason):
    forge(folder, change(read(folder)))
    rows = DenseIndex.load(folder).search(QUERIES, 10)[1]
    assert np.array_equal(rows, index.search(QUERIES, 10)[1])
    assert "is damaged: " in caplog.text and reason in caplog.text


def test_graph_of_other_numbers_than_the_index_says_is_not_followed(folder, caplog):
    meta = json.loads((folder / "index.json").read_text())
    meta["hnsw"]["M"] = 5
    (folder / "index.json").write_text(json.dumps(meta))
    assert DenseIndex.load(folder).search(QUERIES, 10)[1].shape == (20, 10)
    assert "is damaged: hnsw_neighbors.npy holds" in caplog.text


def test_vectors_of_a_graph_that_are_cut_short_are_an_error(folder):
    (folder / "vectors.npy").write_bytes((folder / "vectors.npy").read_bytes()[:-4])
    with pytest.raises(ValueError, match="mmap length is greater than file size"):
        DenseIndex.load(folder)


def test_index_can_be_saved_over_itself(folder):
    again = DenseIndex.load(folder)
    again.save(folder, "abc")
    assert np.array_equal(again.vectors, VECTORS) and np.array_equal(np.load(folder / "vectors.npy"), VECTORS)
