"""ROUGE against figures worked by hand, and against Google's rouge_score."""

import time

import numpy as np
import pytest

from ragsmith.evaluate.rouge import longest_common, rouge, rouge_tokens

WORDS = ["the", "The", "cat", "cats", "sat", "on", "mat.", "well-known", "x_y", "3.5", "don't", "--", "...", "\t"]


def slow_longest(one: list[str], other: list[str]) -> int:
    if not one or not other:
        return 0
    if one[-1] == other[-1]:
        return 1 + slow_longest(one[:-1], other[:-1])
    return max(slow_longest(one[:-1], other), slow_longest(one, other[:-1]))


def test_the_example_of_lin_is_worked_by_hand():
    # Lin 2004, section 3: "police killed the gunman" against S2 and S3; only ROUGE-L tells the two apart.
    reference = ["police killed the gunman"]
    second, third = rouge("police kill the gunman", reference), rouge("the gunman kill police", reference)
    assert second == {"rouge1": 3 / 4, "rouge2": 1 / 3, "rougeL": 3 / 4}
    assert third == {"rouge1": 3 / 4, "rouge2": 1 / 3, "rougeL": 2 / 4}


def test_each_kind_takes_the_reference_that_fits_it_best():
    scores = rouge("a b c", ["c b a", "a b x y z"])
    assert scores == pytest.approx({"rouge1": 1.0, "rouge2": 2 / 6, "rougeL": 2 * 2 / 8})


def test_scores_equal_those_of_rouge_score_on_random_text():
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
    rng = np.random.default_rng(4)
    partly = 0
    for _ in range(1500):
        answer, *references = (" ".join(rng.choice(WORDS, rng.integers(0, 9))) for _ in range(3))
        theirs = [scorer.score(reference, answer) for reference in references]
        best = {kind: max(scores[kind].fmeasure for scores in theirs) for kind in theirs[0]}
        assert rouge(answer, references) == pytest.approx(best, abs=1e-12), (answer, references)
        partly += 0 < best["rouge2"] < 1
    assert partly > 300


def test_longest_common_sequence_equals_the_recursion():
    rng = np.random.default_rng(5)
    for _ in range(200):
        one, other = (list(rng.choice(list("abc"), rng.integers(0, 8))) for _ in range(2))
        assert longest_common(one, other) == longest_common(other, one) == slow_longest(one, other)


@pytest.mark.parametrize("text", ["東京", "ΔΡΟΜΟΣ ΛΟΓΟΣ", "नमस्ते दुनिया", "naïve café", "e\u0301cole"])
def test_letters_of_all_alphabets_count(text):
    scores = rouge(text, ["zzz", text])
    assert scores["rouge1"] == scores["rougeL"] == 1.0


def test_texts_without_a_word_score_zero():
    assert (
        rouge("", ["x"])
        == rouge("...", ["..."])
        == rouge("x", [""])
        == rouge("x", [])
        == dict.fromkeys(("rouge1", "rouge2", "rougeL"), 0.0)
    )
    assert rouge("one", ["one"]) == {"rouge1": 1.0, "rouge2": 0.0, "rougeL": 1.0}  # no pair of words


def test_a_text_of_a_hundred_thousand_characters_takes_no_table():
    rng = np.random.default_rng(6)
    one, other = (" ".join(rng.choice(["ab", "cd", "ef", "gh"], 33_000)) for _ in range(2))
    begun = time.perf_counter()
    scores = rouge(one, [other])
    assert 0.5 < scores["rougeL"] < 1 and time.perf_counter() - begun < 20
    assert rouge_tokens("\u202e<script>\x00") == ["script"]
