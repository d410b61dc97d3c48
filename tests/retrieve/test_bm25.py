import math

import pytest

from ragsmith.retrieve.bm25 import BM25Index, words

TEXTS = {
    "p1": "Return disk usage statistics about the given path.",
    "p2": "Return the path of the user's home; the path is a string.",
    "p3": "disk disk disk",
    "p4": "Größe des Baums: 漢字 und mehr",
    "p5": "",
}


def lucene_bm25(texts: list[str], query: str, k1: float = 1.5, b: float = 0.75) -> list[float]:
    """The formula of Lucene (Kamphuis et al., ECIR 2020, eq. of variant `Lucene (accurate)`), word by word."""
    documents = [words(text) or [""] for text in texts]
    mean = sum(map(len, documents)) / len(documents)
    scores = []
    for document in documents:
        score = 0.0
        for word in words(query):
            df = sum(word in other for other in documents)
            idf = math.log(1 + (len(documents) - df + 0.5) / (df + 0.5))
            tf = document.count(word)
            score += idf * tf / (tf + k1 * (1 - b + b * len(document) / mean))
        scores.append(score)
    return scores


@pytest.mark.parametrize("query", ["disk usage", "path", "path path disk", "größe", "the unknown path", "漢字"])
@pytest.mark.parametrize(("k1", "b"), [(1.5, 0.75), (0.9, 0.4)])
def test_scores_equal_the_formula_worked_word_by_word(query: str, k1: float, b: float) -> None:
    expected = {
        passage_id: score
        for passage_id, score in zip(TEXTS, lucene_bm25(list(TEXTS.values()), query, k1, b), strict=True)
        if score > 0
    }
    run = BM25Index(list(TEXTS), list(TEXTS.values()), k1, b).run(["q"], [query], k=10)
    assert dict(zip(run["passage_id"], run["score"], strict=True)) == pytest.approx(expected, rel=1e-5)
    assert run["passage_id"].tolist() == sorted(expected, key=lambda passage_id: -expected[passage_id])
    assert run["rank"].tolist() == list(range(1, len(expected) + 1))


def test_names_of_code_are_found_by_their_words_in_any_case() -> None:
    index = BM25Index(["p1", "p2"], ["shutil.disk_usage(path)", "os.remove(path)"])
    assert index.run(["q"], ["DISK usage?"], k=2)["passage_id"].tolist() == ["p1"]


def test_queries_that_share_no_word_with_any_passage_have_no_rows() -> None:
    index = BM25Index(list(TEXTS), list(TEXTS.values()))
    run = index.run(["a", "b", "c", "d"], ["zebra", "", "!?", "disk"], k=5)
    assert set(run["query_id"]) == {"d"}


def test_ties_are_in_the_order_of_their_ids() -> None:
    run = BM25Index(["p3", "p1", "p2"], ["same words", "same words", "same words"]).run(["q"], ["same"], k=3)
    assert run["passage_id"].tolist() == ["p1", "p2", "p3"]


def test_k_cuts_the_ranking_and_may_exceed_the_passages() -> None:
    index = BM25Index(list(TEXTS), list(TEXTS.values()))
    full = index.run(["q"], ["disk path"], k=1000)
    assert full["passage_id"].tolist()[:2] == index.run(["q"], ["disk path"], k=2)["passage_id"].tolist()
    assert len(full) == 3


def test_passages_without_a_single_word_can_be_indexed() -> None:
    assert BM25Index(["p1", "p2"], ["", "..."]).run(["q"], ["word"], k=2).empty
