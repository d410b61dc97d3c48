import logging
import time

import numpy as np
import pandas as pd
import pytest

from ragsmith.evaluate.answers import COLUMNS, score_answers, token_f1
from ragsmith.read.same_answer import exact_match, normalise

# Of SQuAD's evaluate-v1.1.py: what Python calls punctuation, all of it ASCII.
PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"


def squad_words(text: str) -> list[str]:
    """SQuAD's rules in their order, character by character: lower case, punctuation out, articles out, split."""
    kept = "".join(character for character in text.lower() if character not in PUNCTUATION)
    parts: list[str] = []  # runs of word characters, and of all others
    for character in kept:
        if parts and parts[-1][-1].isalnum() == character.isalnum():
            parts[-1] += character
        else:
            parts.append(character)
    return "".join(" " if part in ("a", "an", "the") else part for part in parts).split()


def squad_f1(answer: str, reference: str) -> float:
    found, wanted = squad_words(answer), squad_words(reference)
    shared = sum(min(found.count(word), wanted.count(word)) for word in set(found))
    if shared == 0:
        return 0.0
    precision, recall = shared / len(found), shared / len(wanted)
    return 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Eiffel Tower", "eiffel tower"),
        ("  an   apple\ta day ", "apple day"),
        ("U.S.A.", "usa"),
        ("theatre", "theatre"),  # an article inside a word stays
        ("well-known", "wellknown"),
        ("shutil.disk_usage", "shutildiskusage"),
        ("naïve Café", "naïve café"),
        ("", ""),
        ("A", "a"),  # ours: SQuAD leaves nothing of these
        ("**", "**"),
    ],
)
def test_normalisation_follows_squad(text, expected):
    assert normalise(text) == expected


@pytest.mark.parametrize(
    ("answer", "reference", "equal"),
    [
        ("1,000", "1000", True),  # a comma is punctuation, and so is a point
        ("3.5", "35", True),
        ("-5", "5", True),
        ("5 %", "5", True),
        ("Beyoncé", "beyoncé", True),
        ("Beyonc\u00e9", "Beyonce\u0301", False),  # SQuAD does not compose
        ("ÉCOLE", "école", True),
        ("STRASSE", "straße", False),
        ("İstanbul", "i\u0307stanbul", True),
        ("d\u2019Artagnan", "dArtagnan", False),  # only ASCII punctuation goes
        ("d'Artagnan", "dArtagnan", True),
        ("1914–1918", "19141918", False),
        ("a–b", "–b", True),  # the dash ends the article's word
        ("The An A cat", "cat", True),
        ("anthem", "them", False),
        ("a.k.a.", "aka", True),  # articles go after punctuation
        ("a b", "b", True),
        ("東京", "東京", True),
        ("\u00a0Paris\u2003", "Paris", True),
        ("U.S.", "US", True),
        ("rock-n-roll", "rock n roll", False),
    ],
)
def test_equal_is_what_the_published_rules_call_equal(answer, reference, equal):
    assert (squad_words(answer) == squad_words(reference)) is equal
    assert exact_match(answer, [reference]) == exact_match(reference, [answer]) == float(equal)


def test_scores_equal_the_published_rules_on_random_text():
    rng = np.random.default_rng(1)
    words = [
        "the",
        "a",
        "An",
        "cat",
        "Cat.",
        "naïve",
        "–",
        "1,000",
        "x_y",
        "東京",
        "don't",
        "\u2028",
        "a–b",
        "the-cat",
    ]
    overlapping = 0
    for _ in range(2000):
        answer, *references = (" ".join(rng.choice(words, rng.integers(1, 7))) for _ in range(3))
        if not all(squad_words(text) for text in (answer, *references)):
            continue  # our one addition: these are kept as they are
        assert normalise(answer).split() == squad_words(answer)
        equal = any(squad_words(answer) == squad_words(reference) for reference in references)
        assert exact_match(answer, references) == float(equal)
        best = max(squad_f1(answer, reference) for reference in references)
        assert token_f1(answer, references) == pytest.approx(best, abs=1e-12)
        overlapping += 0 < best < 1
    assert overlapping > 500


def test_best_reference_counts():
    assert exact_match("Saint Bernadette", ["Bernadette", "saint bernadette."]) == 1.0
    # against "b c d": 2 shared of 3 and 3 tokens
    assert token_f1("x c d", ["zzz", "b c d"]) == pytest.approx(2 / 3)


def test_repeated_tokens_count_as_often_as_both_sides_hold_them():
    assert token_f1("no no no", ["no no yes"]) == pytest.approx(2 * 2 / 6)


def test_two_different_operators_are_not_equal():
    assert exact_match("**", ["//"]) == 0.0 and exact_match("**", ["**"]) == 1.0


def test_an_exact_match_always_has_full_f1():
    for text in ("the", "**", "The cat"):
        assert exact_match(text, [text]) == token_f1(text, [text]) == 1.0


def test_empty_and_missing_answers_score_zero_and_stay():
    answers = pd.DataFrame({"query_id": ["a", "b", "c", "d"], "answers": [["x"], ["x"], ["x"], ["x"]]})
    predictions = pd.DataFrame({"query_id": ["b", "c", "d"], "answer": ["  ", None, "X"]})
    scored = score_answers(predictions, answers)
    assert scored["query_id"].tolist() == ["a", "b", "c", "d"]
    assert scored["em"].tolist() == scored["f1"].tolist() == [0.0, 0.0, 0.0, 1.0]


def test_all_measures_of_an_answer_stand_in_one_row():
    answers = pd.DataFrame({"query_id": ["a", "b"], "answers": [["the old cat sat", "dog"], ["x"]]})
    scored = score_answers(pd.DataFrame({"query_id": ["a", "b"], "answer": ["the cat sat", ""]}), answers)
    assert list(scored.columns) == ["query_id", "em", "f1", "bleu", "rouge1", "rouge2", "rougeL"]
    # F1 without "the": 2 of 2 and 3. ROUGE-1 3 of 3 and 4, ROUGE-2 1 of 2 and 3, ROUGE-L 3 of 3 and 4.
    row = scored.set_index("query_id").loc["a"]
    assert row[["em", "f1", "rouge1", "rouge2", "rougeL"]].tolist() == pytest.approx([0, 4 / 5, 6 / 7, 2 / 5, 6 / 7])
    assert 0 < row["bleu"] < 1
    assert scored.set_index("query_id").loc["b"].tolist() == [0.0] * 6


def test_answers_that_are_all_empty_score_zero_and_are_told_of(caplog):
    answers = pd.DataFrame({"query_id": ["a", "b"], "answers": [["x"], ["y"]]})
    with caplog.at_level(logging.WARNING):
        scored = score_answers(pd.DataFrame({"query_id": ["a", "b"], "answer": ["", None]}), answers)
    assert scored[list(COLUMNS)].to_numpy().tolist() == [[0.0] * 6] * 2
    assert "All 2 answers are empty" in caplog.text


def test_ten_thousand_answers_take_seconds():
    rng = np.random.default_rng(2)
    words = np.array(["shutil", "copy", "the", "file", "of", "path", "object", "naïve", "3.5"])
    texts = [" ".join(rng.choice(words, 5)) for _ in range(20_000)]
    answers = pd.DataFrame({"query_id": range(10_000), "answers": [texts[n : n + 2] for n in range(0, 20_000, 2)]})
    begun = time.perf_counter()
    scored = score_answers(pd.DataFrame({"query_id": range(10_000), "answer": texts[:10_000]}), answers)
    assert len(scored) == 10_000 and time.perf_counter() - begun < 30


def test_references_of_several_rows_and_of_parquet_arrays_add_up(tmp_path):
    answers = pd.DataFrame({"query_id": ["a", "a"], "answers": [["one"], ["two", "three"]]})
    answers.to_parquet(tmp_path / "answers.parquet")
    loaded = pd.read_parquet(tmp_path / "answers.parquet")
    assert isinstance(loaded["answers"].iloc[0], np.ndarray)
    assert score_answers(pd.DataFrame({"query_id": ["a"], "answer": ["three"]}), loaded)["em"].tolist() == [1.0]


@pytest.mark.parametrize(
    ("predicted", "references", "message"),
    [
        (["q"], {"q": []}, "no reference answer for query 'q'"),
        (["q"], {"q": None}, "no reference answer for query 'q'"),
        (["q", "other"], {"q": ["x"]}, "answers lack: 'other'"),
        (["q", "q"], {"q": ["x"]}, "more than one prediction for query 'q'"),
        ([], {}, "answers table is empty"),
    ],
)
def test_faulty_answers_are_refused(predicted, references, message):
    answers = pd.DataFrame({"query_id": list(references), "answers": list(references.values())})
    with pytest.raises(ValueError, match=message):
        score_answers(pd.DataFrame({"query_id": predicted, "answer": "x"}), answers)
