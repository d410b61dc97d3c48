"""Answers found in passages by DPR's rule, against a literal copy of its loops that shares nothing with ours."""

import unicodedata

import numpy as np
import pandas as pd
import pytest

from ragsmith.evaluate.answer_recall import answer_recall, first_answer_ranks, has_answer, joined_tokens


def make_run(ranking: dict[str, list[str]]) -> pd.DataFrame:
    rows = [(q, p, -float(rank), rank) for q, found in ranking.items() for rank, p in enumerate(found, start=1)]
    return pd.DataFrame(rows, columns=["query_id", "passage_id", "score", "rank"])


def make_answers(answers: dict[str, list[str]]) -> pd.DataFrame:
    return pd.DataFrame({"query_id": list(answers), "answers": list(answers.values())})


def make_passages(texts: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame({"passage_id": list(texts), "text": list(texts.values())})


def slow_tokens(text: str) -> list[str]:
    """DPR's tokens by the category of each character, without a regular expression."""
    tokens: list[str] = []
    word = ""
    for character in unicodedata.normalize("NFD", text):
        kind = unicodedata.category(character)[0]
        if kind in "LNM":
            word += character
            continue
        tokens += [word] if word else []
        word = ""
        if kind not in "ZC":
            tokens.append(character)
    return [token.lower() for token in [*tokens, *([word] if word else [])]]


def slow_has_answer(text: str, answers: list[str]) -> bool:
    found = slow_tokens(text)
    for answer in answers:
        sought = slow_tokens(answer)
        if sought and any(found[i : i + len(sought)] == sought for i in range(len(found) - len(sought) + 1)):
            return True
    return False


@pytest.mark.parametrize(
    ("text", "answers", "expected"),
    [
        ("It was born in Paris.", ["paris"], True),
        ("It was born in Parisian streets.", ["paris"], False),  # whole tokens only
        ("use shutil.disk_usage(path)", ["disk_usage"], True),
        ("use shutil.disk_usage(path)", ["shutil.disk"], True),
        ("the U. S. Army", ["U.S."], True),  # punctuation is a token, white space is not
        ("the US Army", ["U.S."], False),
        ("the well known man", ["well-known"], False),
        ("cafe\u0301 noir", ["CAFÉ"], True),  # composed and decomposed
        ("cafe noir", ["café"], False),
        ("in 1,000 years", ["1,000"], True),
        ("in 1000 years", ["1,000"], False),
        ("東京都", ["東京"], False),  # without spaces, one token
        ("北京 東京", ["東京"], True),
        ("ΟΔΟΣ", ["οδος"], True),
        ("two\x00words\u200bhere", ["two words here"], True),  # controls part tokens and are none
        ("nothing", ["zzz", "nothing"], True),  # any of several
        ("nothing", [" ", ""], False),
        ("", ["nothing"], False),
        ("", [""], False),
        ("a b", ["a  b"], True),
        ("ab", ["a b"], False),
    ],
)
def test_an_answer_is_found_as_dpr_finds_it(text, answers, expected):
    assert has_answer(text, answers) is expected
    assert slow_has_answer(text, answers) is expected


def test_tokens_and_finds_equal_the_slow_rule_on_random_unicode():
    rng = np.random.default_rng(3)
    alphabet = list("abAB12 .,-_'\t\n\x07éÉ\u0301İ\u0131ßΣς東\u200f\u00a0\u2028½²ǅ\ud7ff\U0001d538\U000e0001")
    found = 0
    for _ in range(3000):
        text = "".join(rng.choice(alphabet, rng.integers(0, 60)))
        answer = "".join(rng.choice(alphabet, rng.integers(1, 3)))
        assert joined_tokens(text).split(" ")[1:-1] == slow_tokens(text), repr(text)
        assert has_answer(text, [answer]) == slow_has_answer(text, [answer]), (text, answer)
        found += has_answer(text, [answer])
    assert 200 < found < 2800


def test_the_first_passage_with_an_answer_decides():
    passages = make_passages({"x": "nothing here", "y": "The answer is 42.", "z": "42 again"})
    run = make_run({"late": ["x", "y", "z"], "never": ["x"], "first": ["z", "x"]})
    answers = make_answers({"first": ["42"], "late": ["43", "42"], "never": ["42"], "unread": ["42"]})
    ranks = first_answer_ranks(run.iloc[::-1], passages, answers)
    assert ranks["query_id"].tolist() == ["first", "late", "never", "unread"]
    assert ranks["rank"].astype(object).where(ranks["rank"].notna(), None).tolist() == [1, 2, None, None]
    recall = answer_recall(run, passages, answers, [1, 2, 3])
    assert recall.index.tolist() == ["first", "late", "never", "unread"]
    assert recall.to_numpy().tolist() == [[1, 1, 1], [0, 1, 1], [0, 0, 0], [0, 0, 0]]
    assert list(recall.columns) == ["answer_recall@1", "answer_recall@2", "answer_recall@3"]


def test_recall_on_random_data_equals_the_slow_loop():
    rng = np.random.default_rng(8)
    words = ["one", "two", "three", "four", "five", "six", "Seven", "eight!"]
    texts = {f"p{n}": " ".join(rng.choice(words, rng.integers(0, 6))) for n in range(40)}
    ranking = {f"q{n}": list(rng.permutation(list(texts))[: rng.integers(1, 9)]) for n in range(50)}
    sought = {q: [" ".join(rng.choice(words, rng.integers(1, 3))) for _ in range(2)] for q in ranking}
    recall = answer_recall(make_run(ranking), make_passages(texts), make_answers(sought), [1, 4])
    for query_id, found in ranking.items():
        hits = [slow_has_answer(texts[passage], sought[query_id]) for passage in found]
        assert recall.loc[query_id].tolist() == [float(any(hits[:1])), float(any(hits[:4]))]
    assert 0 < recall.to_numpy().mean() < 1


def test_answers_of_several_rows_and_of_parquet_add_up(tmp_path):
    pd.DataFrame({"query_id": ["q", "q"], "answers": [["one"], ["two"]]}).to_parquet(tmp_path / "answers.parquet")
    loaded = pd.read_parquet(tmp_path / "answers.parquet")
    assert answer_recall(make_run({"q": ["p"]}), make_passages({"p": "two"}), loaded, [1]).to_numpy() == 1


@pytest.mark.parametrize(
    ("ranking", "texts", "answers", "message"),
    [
        ({"q": ["p", "ghost"]}, {"p": "x"}, {"q": ["x"]}, "passages table lacks: 'ghost'"),
        ({"q": ["p"], "other": ["p"]}, {"p": "x"}, {"q": ["x"]}, "answers lack: 'other'"),
        ({"q": ["p"]}, {"p": "x"}, {"q": [" \t"]}, "no answer that has a token for query 'q'"),
        ({"q": ["p"]}, {"p": "x"}, {"q": None}, "no answer that has a token for query 'q'"),
        ({"q": ["p", "p"]}, {"p": "x"}, {"q": ["x"]}, "run repeats"),
        ({}, {"p": "x"}, {"q": ["x"]}, "run is empty"),
        ({"q": ["p"]}, {"p": "x"}, {}, "answers table is empty"),
    ],
)
def test_faulty_tables_are_refused(ranking, texts, answers, message):
    with pytest.raises(ValueError, match=message):
        first_answer_ranks(make_run(ranking), make_passages(texts), make_answers(answers))


def test_passages_that_stand_twice_and_depths_below_one_are_refused():
    passages = pd.concat([make_passages({"p": "x"})] * 2)
    with pytest.raises(ValueError, match="passages repeat passage_id 'p'"):
        first_answer_ranks(make_run({"q": ["p"]}), passages, make_answers({"q": ["x"]}))
    with pytest.raises(ValueError, match="k at least 1; got 0"):
        answer_recall(make_run({"q": ["p"]}), passages.iloc[:1], make_answers({"q": ["x"]}), [0, 1])
