"""Whether two short answers are the same, as SQuAD v1.1 sees it: on dev, while training, as in the report."""

import re
import string
from collections.abc import Iterable

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Normalise an answer before comparing: lower case, no punctuation, no articles, single spaces.

    Punctuation goes without leaving a space, so "shutil.disk_usage" is one token, "shutildiskusage": an answer that
    names the function alone shares no token with it. One rule is added to SQuAD's: a text of which nothing would be
    left, such as "**" or "a", is kept as it is in lower case, or else all such answers would be equal.

    >>> normalise("The  U.S. Army!")
    'us army'
    >>> normalise("**")
    '**'

    Source:
        Rajpurkar et al., EMNLP 2016; evaluate-v1.1.py.
    """
    lowered = text.lower()
    return " ".join(_ARTICLES.sub(" ", lowered.translate(_PUNCTUATION)).split()) or " ".join(lowered.split())


def exact_match(answer: str, references: Iterable[str]) -> float:
    """1.0 if the normalised answer equals a normalised reference, otherwise 0.0. An empty answer scores 0.

    >>> exact_match("the GIL", ["GIL", "global interpreter lock"])
    1.0
    """
    found = normalise(answer)
    return float(found != "" and any(found == normalise(reference) for reference in references))
