"""BLEU against figures worked by hand, and against sacrebleu's own functions."""

import math

import numpy as np
import pytest

from ragsmith.evaluate.bleu import bleu, corpus_bleu


def test_short_answers_are_worked_by_hand():
    # 2 of 2 words, 1 of 1 pair, no longer n-grams to count; brevity penalty exp(1 - 3/2).
    assert bleu("the cat", ["the cat sat"]) == pytest.approx(math.exp(1 - 3 / 2))
    # 3 of 4 words, 2 of 3 pairs, 1 of 2 triples, 0 of 1 of four: smoothed to 1 / 2 of one.
    assert bleu("a b c x", ["a b c d"]) == pytest.approx((3 / 4 * 2 / 3 * 1 / 2 * 1 / 2) ** (1 / 4))


def test_equal_answers_score_exactly_one_and_strangers_nothing():
    for text in ("Paris", "a b", "東京", "U.S.", "one two three four five"):
        assert bleu(text, ["zzz", text]) == 1.0
    assert bleu("Paris", ["paris"]) == 0.0  # case counts
    assert bleu("", ["Paris"]) == bleu("Paris", [""]) == bleu("", [""]) == bleu("x", []) == 0.0


def test_the_best_reference_counts_as_sacrebleu_scores_it_alone():
    import sacrebleu

    rng = np.random.default_rng(2)
    words = ["the", "cat", "sat", "on", "a", "mat.", "naïve", "3.5", "<x>", "don't"]
    partly = 0
    for _ in range(300):
        answer, *references = (" ".join(rng.choice(words, rng.integers(1, 9))) for _ in range(3))
        best = max(
            sacrebleu.sentence_bleu(answer, [reference], use_effective_order=True).score for reference in references
        )
        assert bleu(answer, references) == pytest.approx(best / 100, abs=1e-12)
        partly += 0 < best < 100
    assert partly > 100


def test_a_corpus_is_scored_as_one_text_with_all_its_references():
    import sacrebleu

    answers = ["the cat sat on the mat today", "a dog runs in the park", "no reference shares this"]
    references = [["the cat sat on a mat today", "today the cat sat"], ["a dog ran in the park"], ["something", "x"]]
    streams = [[texts[0] for texts in references], ["today the cat sat", None, "x"]]
    expected = sacrebleu.corpus_bleu(answers, streams).score / 100
    assert 0.1 < expected < 0.9
    assert corpus_bleu(answers, references) == pytest.approx(expected)
    assert corpus_bleu(answers, references) != pytest.approx(
        np.mean([bleu(answer, texts) for answer, texts in zip(answers, references, strict=True)]), abs=0.01
    )
    assert corpus_bleu(["a b"], [["a b"]]) == 1.0
    assert corpus_bleu(["", ""], [["a"], ["b"]]) == 0.0


@pytest.mark.parametrize(
    ("answers", "references", "message"),
    [([], [], "0 answers"), (["a"], [], "1 answers, 0 lists"), (["a", "b"], [["a"], []], r"number 1 \(from 0\)")],
)
def test_a_corpus_without_references_is_refused(answers, references, message):
    with pytest.raises(ValueError, match=message):
        corpus_bleu(answers, references)
