import tracemalloc

import numpy as np
import pandas as pd
import pytest

from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.fusion import reciprocal_rank_fusion
from ragsmith.retrieve.hnsw import HnswSettings
from ragsmith.retrieve.index import DenseIndex
from ragsmith.retrieve.passage_text import passage_inputs
from ragsmith.retrieve.search import MODES, Searcher

PASSAGES = pd.DataFrame(
    [
        ("p1", "shutil.disk_usage", "shutil.disk_usage(path)\n\nReturn disk usage statistics about the given path."),
        ("p2", "shutil.rmtree", "shutil.rmtree(path)\n\nRecursively delete a directory tree."),
        ("p3", "os.getpid", "os.getpid()\n\nReturn the current process id."),
    ],
    columns=["passage_id", "title", "text"],
)
QUESTIONS = ["How much space is left on the drive?", "remove a folder and everything in it", "disk usage"]
IDS = ["q1", "q2", "q3"]


@pytest.fixture(scope="module")
def searcher(minilm: Encoder) -> Searcher:
    index = DenseIndex(PASSAGES["passage_id"].tolist(), minilm.encode(passage_inputs(PASSAGES), "passage"))
    return Searcher(minilm, index, PASSAGES[::-1])


def test_the_real_model_finds_what_shares_no_word_with_the_question(searcher: Searcher) -> None:
    run = searcher.run(IDS, QUESTIONS, k=1, mode="dense")
    assert run["passage_id"].tolist() == ["p1", "p2", "p1"]
    assert run["score"].to_numpy() == pytest.approx(run["cosine"].to_numpy(), abs=1e-5)


def test_bm25_finds_only_shared_words_and_gives_cosines_all_the_same(searcher: Searcher) -> None:
    run = searcher.run(IDS, QUESTIONS, k=3, mode="bm25")
    assert run.set_index("query_id").loc[["q3"], "passage_id"].iloc[0] == "p1"
    vectors = searcher.encoder.encode(QUESTIONS, "query")
    for row in run.itertuples(index=False):
        place = PASSAGES["passage_id"].tolist().index(row.passage_id)
        expected = vectors[IDS.index(row.query_id)] @ searcher.index.vectors[place]
        assert row.cosine == pytest.approx(float(expected), abs=1e-5)


def test_hybrid_is_the_fusion_of_both(searcher: Searcher) -> None:
    both = [searcher.run(IDS, QUESTIONS, k=100, mode=mode).drop(columns="cosine") for mode in ("bm25", "dense")]
    hybrid = searcher.run(IDS, QUESTIONS, k=2, mode="hybrid").drop(columns="cosine")
    pd.testing.assert_frame_equal(hybrid, reciprocal_rank_fusion(both, depth=2))


@pytest.mark.parametrize("mode", MODES)
def test_one_question_is_answered_as_it_is_among_others(searcher: Searcher, mode: str) -> None:
    together = searcher.run(IDS, QUESTIONS, k=3, mode=mode)
    alone = searcher.run(["q2"], QUESTIONS[1:2], k=3, mode=mode)
    expected = together[together["query_id"] == "q2"]
    assert alone["passage_id"].tolist() == expected["passage_id"].tolist()
    assert alone["score"].to_numpy() == pytest.approx(expected["score"].to_numpy(), abs=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_no_questions_give_no_rows(searcher: Searcher, mode: str) -> None:
    assert searcher.run([], [], k=3, mode=mode).empty


def test_an_unknown_mode_is_an_error_that_lists_them(searcher: Searcher) -> None:
    with pytest.raises(ValueError, match=r"Unknown search mode 'fuzzy'\. There are: bm25, dense, hybrid"):
        searcher.run(IDS, QUESTIONS, k=3, mode="fuzzy")  # type: ignore[arg-type]


def test_an_index_of_other_passages_is_an_error(tiny_encoder: Encoder) -> None:
    index = DenseIndex(["p1", "p9"], np.zeros((2, 64), dtype=np.float32))
    with pytest.raises(ValueError, match="does not hold the same passages"):
        Searcher(tiny_encoder, index, PASSAGES)


def test_hybrid_search_over_a_graph_is_the_fusion_with_what_the_graph_finds(tiny_encoder: Encoder) -> None:
    words = [f"word{number}" for number in range(40)]
    texts = [f"{words[number % 40]} {words[number * 7 % 39]} {words[number // 40]}" for number in range(400)]
    ids = [f"p{number}" for number in range(400)]
    passages = pd.DataFrame({"passage_id": ids, "title": "", "text": texts})
    vectors = tiny_encoder.encode(passage_inputs(passages), "passage")
    graph = Searcher(tiny_encoder, DenseIndex(ids, vectors, HnswSettings()), passages, depth=20)
    asked = (["q1", "q2"], ["word3 word21", "word5 word35 word0"])
    both = [graph.run(*asked, k=20, mode=mode).drop(columns="cosine") for mode in ("bm25", "dense")]
    hybrid = graph.run(*asked, k=10, mode="hybrid")
    pd.testing.assert_frame_equal(hybrid.drop(columns="cosine"), reciprocal_rank_fusion(both, depth=10))
    exact = Searcher(tiny_encoder, DenseIndex(ids, vectors), passages, depth=20)
    for query_id, found in exact.run(*asked, k=10, mode="dense").groupby("query_id")["passage_id"]:
        walked = both[1].loc[both[1]["query_id"] == query_id, "passage_id"]
        assert len(set(found) & set(walked)) >= 9


class Counting:
    """Encodes a question as the vector of its number."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = vectors

    def encode(self, texts: list[str], kind: str) -> np.ndarray:
        return self.vectors[[int(text.split()[-1]) for text in texts]]


@pytest.fixture
def wide() -> Searcher:
    """Three hundred passages that all have a word in common."""
    vectors = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = [f"p{number:03}" for number in range(300)]
    passages = pd.DataFrame({"passage_id": ids, "title": "", "text": [f"word number {n}" for n in range(300)]})
    return Searcher(Counting(vectors), DenseIndex(ids, vectors), passages)


@pytest.mark.parametrize("mode", MODES)
def test_as_many_passages_are_found_as_are_asked_for_however_many(wide: Searcher, mode: str) -> None:
    assert len(wide.run(["q"], ["word 5"], k=250, mode=mode)) == 250


def test_dense_search_makes_no_index_of_words(wide: Searcher) -> None:
    wide.run(["q"], ["word 5"], k=3, mode="dense")
    assert "sparse" not in vars(wide)
    wide.run(["q"], ["word 5"], k=3, mode="hybrid")
    assert "sparse" in vars(wide)


def test_cosines_are_the_same_in_blocks_and_memory_does_not_grow_with_the_run(
    wide: Searcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = [f"q{number}" for number in range(40)]
    texts = [f"word {number}" for number in range(40)]
    whole = wide.run(queries, texts, k=200, mode="dense")
    assert whole["cosine"].to_numpy() == pytest.approx(whole["score"].to_numpy(), abs=1e-6)
    monkeypatch.setattr("ragsmith.retrieve.search.NUMBERS_AT_ONCE", 8 * 7)
    vectors = wide.encoder.encode(texts, "query")
    assert (wide.cosines(queries, vectors, whole) == whole["cosine"].to_numpy()).all()
    monkeypatch.setattr("ragsmith.retrieve.search.NUMBERS_AT_ONCE", 1 << 16)
    many = pd.concat([whole] * 40, ignore_index=True)
    tracemalloc.start()
    wide.cosines(queries, vectors, many)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30 * len(many)  # places and results; all vectors at once are three times 32 bytes a row


@pytest.mark.parametrize("mode", ["dense", "bm25"])
def test_of_equal_passages_the_same_is_first_however_many_are_asked_for(mode: str) -> None:
    ids = [f"p{number:02}" for number in range(20)]
    vectors = np.tile(np.float32([[1, 0]]), (20, 1))
    passages = pd.DataFrame({"passage_id": ids, "title": "", "text": "the same words"})
    found = Searcher(Counting(vectors), DenseIndex(ids, vectors), passages)
    for k in (1, 3, 5, 20):
        assert found.run(["q"], ["same 0"], k=k, mode=mode)["passage_id"].tolist() == ids[:k]
