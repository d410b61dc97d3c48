"""Answers found in texts by DPR's rule, against a literal copy of its loops that shares nothing with ours."""

import unicodedata

import numpy as np
import pytest

from ragsmith.retrieve.has_answer import has_answer, holders, joined_tokens


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


def test_texts_hold_the_answers_that_each_alone_is_found_to_hold():
    texts = ["Paris, the capital of FRANCE.", "Parisian, of Ostia", "", "x x y"]
    answers = [["Paris"], ["of france"], ["Rome", "Ostia"], ["capital France"], [" "], [], ["Roma"], ["x y"], ["y x"]]
    expected = [[place for place, some in enumerate(answers) if has_answer(text, some)] for text in texts]
    assert expected == [[0, 1], [2], [], [7]]
    assert list(holders(answers, texts)) == [(row, places) for row, places in enumerate(expected) if places]
    assert list(holders([["a"]], [])) == []


def test_texts_are_not_read_before_they_are_asked_for():
    texts = iter(["Rome", "Paris", "Ostia"])
    found = holders([["Paris"], ["Rome"]], texts)
    assert [next(found), next(found)] == [(0, [1]), (1, [0])] and list(texts) == ["Ostia"]
