"""Whether a text holds an answer, as the retrieval of answers is judged where nobody judged the passages."""

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache

JUDGEMENTS = frozenset({"yes", "no", "true", "false"})


def has_answer(text: str, answers: Iterable[str]) -> bool:
    """Whether the tokens of an answer stand in the text one after another, upper and lower case alike.

    An answer without any token, such as " ", is in no text. DPR finds it in every one.

    >>> has_answer("Paris, the capital of FRANCE.", ["of france"]), has_answer("Parisian", ["Paris"])
    (True, False)
    """
    return holds(joined_tokens(text), sought_tokens(answers))


def sought_tokens(answers: Iterable[str]) -> list[str]:
    """The joined tokens of each answer that has any."""
    return [sought for answer in answers if (sought := joined_tokens(answer)).strip()]


def found_by(answers: Iterable[str]) -> list[str]:
    """The answers that a passage can be found by: that it holds "no" says nothing about what it answers.

    >>> found_by(["Yes.", "the Nile"])
    ['the Nile']
    """
    return [answer for answer in answers if answer.strip(" .!").casefold() not in JUDGEMENTS]


def holders(answers: Sequence[Iterable[str]], texts: Iterable[str]) -> Iterator[tuple[int, list[int]]]:
    """The number of each text that holds answers, and the places of the questions whose they are, in order.

    Each text is taken apart once, however many questions there are, and when it is asked for.

    >>> list(holders([["Paris"], ["Rome", "Ostia"]], ["Parisian.", "A road to Ostia, or Rome."]))
    [(1, [1])]
    """
    # By the longest token of each answer, which few texts have.
    sought: dict[str, list[tuple[str, int]]] = {}
    for place, accepted in enumerate(answers):
        for answer in sought_tokens(accepted):
            sought.setdefault(max(answer.split(), key=len), []).append((answer, place))
    for number, text in enumerate(texts):
        joined = joined_tokens(text)
        tokens = sought.keys() & set(joined.split())
        places = {place for token in tokens for answer, place in sought[token] if answer in joined}
        if places:
            yield number, sorted(places)


def joined_tokens(text: str) -> str:
    """Tokens of a text in lower case, a space before and after each: a sequence of tokens is then a part of a string.

    A token is a run of letters, digits and marks, or any other character that is neither space nor control; hence no
    token holds a space. Text is decomposed first (NFD), so that é is found in whichever way it is written.

    >>> joined_tokens("U.S. Army")
    ' u . s . army '

    Source:
        SimpleTokenizer and _normalize of facebookresearch/DPR, dpr/data/qa_validation.py.
    """
    tokens = _find_tokens()(unicodedata.normalize("NFD", text))
    # Lowered when joined: lower() looks at a sigma's word to choose its form, and a space ends what it looks at.
    return f" {' '.join(tokens)} ".lower() if tokens else " "


@cache
def _find_tokens() -> Callable[[str], list[str]]:
    import regex

    find: Callable[[str], list[str]] = regex.compile(r"[\p{L}\p{N}\p{M}]+|[^\p{Z}\p{C}]").findall
    return find


def holds(text: str, sought: Sequence[str]) -> bool:
    """Whether the joined tokens of a text hold those of an answer."""
    return any(answer in text for answer in sought)
