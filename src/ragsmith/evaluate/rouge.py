"""ROUGE of short answers: shared words, shared pairs of words, and the longest sequence that both hold."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache

KINDS = ("rouge1", "rouge2", "rougeL")


def rouge(answer: str, references: Sequence[str]) -> dict[str, float]:
    """F-measures of ROUGE-1, ROUGE-2 and ROUGE-L without stemming, each against the reference that fits it best.

    They equal those of Google's rouge_score for text in ASCII. That package drops every other letter, so that an
    answer in Greek or Chinese scores 0 against itself; here letters of all alphabets count. As there, a text of one
    word has no pair of words, and hence a ROUGE-2 of 0 even against itself. An empty answer scores 0.

    >>> rouge("the cat sat", ["the cat sat down", "a dog"])
    {'rouge1': 0.8571428571428571, 'rouge2': 0.8, 'rougeL': 0.8571428571428571}

    Args:
        answer: as it was given.
        references: accepted answers.
    Returns:
        rouge1, rouge2, rougeL, each 0 to 1.
    Source:
        Lin, ACL workshop on text summarization 2004, sections 2 and 3.
    """
    found = rouge_tokens(answer)
    best = dict.fromkeys(KINDS, 0.0)
    for reference in references if found else []:
        wanted = rouge_tokens(reference)
        longest = longest_common(found, wanted)
        values = (
            _shared_ngrams(found, wanted, 1),
            _shared_ngrams(found, wanted, 2),
            _f_measure(longest, len(found), len(wanted)),
        )
        best = {kind: max(best[kind], value) for kind, value in zip(KINDS, values, strict=True)}
    return best


def rouge_tokens(text: str) -> list[str]:
    """Runs of letters, digits and marks, in lower case.

    >>> rouge_tokens("Naïve well-known disk_usage, 3.5")
    ['naïve', 'well', 'known', 'disk', 'usage', '3', '5']
    """
    return _find_words()(text.lower())


def longest_common(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest sequence that both hold in this order, with gaps.

    A bit stands for each token of `one`, in one whole number: two texts of twenty thousand words take some
    milliseconds, where the usual table takes gigabytes.

    Source:
        Hyyrö, Bit-parallel LCS-length computation revisited, AWOCA 2004.
    """
    places: dict[str, int] = {}
    for position, token in enumerate(one):
        places[token] = places.get(token, 0) | 1 << position
    everything = (1 << len(one)) - 1
    row = everything
    for token in other:
        matched = row & places.get(token, 0)
        row = (row + matched | row - matched) & everything
    return len(one) - row.bit_count()


@cache
def _find_words() -> Callable[[str], list[str]]:
    import regex

    find: Callable[[str], list[str]] = regex.compile(r"[\p{L}\p{N}\p{M}]+").findall
    return find


def _shared_ngrams(found: Sequence[str], wanted: Sequence[str], n: int) -> float:
    first, second = (Counter(zip(*(tokens[shift:] for shift in range(n)), strict=False)) for tokens in (found, wanted))
    return _f_measure((first & second).total(), first.total(), second.total())


def _f_measure(shared: int, found: int, wanted: int) -> float:
    # 2PR / (P + R) with P = shared / found and R = shared / wanted.
    return 2 * shared / (found + wanted) if shared else 0.0
