import numpy as np
import pandas as pd
import pytest

from ragsmith.evaluate.answers import exact_match, normalise, score_answers, token_f1


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
