import numpy as np
import pytest

from ragsmith.retrieve.bm25 import words
from ragsmith.retrieve.near_duplicates import Sketches


def shingles(text):
    found = words(text)
    return set(zip(found, found[1:], found[2:], strict=False))


@pytest.mark.parametrize("length", [30, 300, 3000])
def test_the_estimate_is_near_the_jaccard_similarity(length):
    random = np.random.default_rng(length)
    base = [f"w{number}" for number in random.integers(5000, size=length)]
    texts = [" ".join(base)]
    for share in (0.0, 0.01, 0.03, 0.1, 0.5):
        changed = [f"new{place}" if random.random() < share else word for place, word in enumerate(base)]
        texts.append(" ".join(changed))
    found = Sketches(texts).similarity(np.zeros(5, dtype=np.int64), np.arange(1, 6))
    true = [len(shingles(texts[0]) & shingles(text)) / len(shingles(texts[0]) | shingles(text)) for text in texts[1:]]
    assert found == pytest.approx(true, abs=0.15) and found[0] == 1


def test_short_texts_are_compared_by_their_words_and_empty_ones_are_like_nothing():
    sketches = Sketches(["", "one", "one two", "two one!", "three"])
    assert sketches.similarity(np.asarray([0, 1, 2, 1]), np.asarray([0, 2, 3, 4])).tolist() == [0, 0.5, 1, 0]


def test_a_text_has_the_same_sketch_whatever_else_is_there():
    texts = [f"number {number} of many texts, all of a kind" for number in range(5000)]
    assert (Sketches(texts).bins[4000:] == Sketches(texts[4000:]).bins).all()
