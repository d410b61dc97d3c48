"""Tell by their words what kind of question and of answer these are, and what a question is about."""

import re

from ragsmith.retrieve.bm25 import words

OTHER = "other"
_QUESTION_WORDS = {word: word for word in ("what", "which", "how", "where", "when", "who", "why")}
_QUESTION_WORDS |= {"whom": "who", "whose": "who"}
_YES_NO = set(
    """am are can could did do does had has have is may might must shall should was were will would
    aren can couldn didn doesn don hadn hasn haven isn shouldn wasn weren won wouldn""".split()  # "isn't", cut at "'"
)
_PREPOSITIONS = set("about after at before by during for from in into of on since through to under until with".split())
# "Was ist ein Iterator?" asks in German.
_GERMAN = set("das der ein eine haben heißt ich ist kann können macht muss passiert sind soll tut wird werden".split())
_AMOUNTS = set("big deep far fast high large long many much often old small soon tall wide".split())
# What nearly every English text holds, so that sharing it says nothing.
_STOP_WORDS = (
    set(_QUESTION_WORDS) | _YES_NO | _PREPOSITIONS | set(
        """a again all also an and any as be because been being both but cannot d each else few get gets got he her
        here hers him his how i if it its just ll m many me mine more most much my need no nor not now off once only
        or other our ours out over own please re s same she so some such t than that the their theirs them then there
        these they this those too up us use used uses using ve very want wants we while without you your
        yours""".split()
    )
)  # fmt: skip
_CLAUSE = re.compile(r"[,.;:!?…]\s+")
# Chinese, Japanese, Thai, Lao, Burmese and Khmer put no space between words: what they share cannot be counted.
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)

_NUMBER = re.compile(
    r"[~≈<>=±]?\s?[-+−]?[$€£¥]?(0x[0-9a-f]+|\d[\d.,_' ]*(e[-+]?\d+)?)\s?([%‰°]|[^\W\d_]{1,12})?",  # 1 024.5 MB
    re.IGNORECASE,
)
_YEAR = re.compile(r"[12]\d{3}")
_MONTH = r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DATE = re.compile(
    "|".join(
        [
            r"\d{4}[-/.]\d{1,2}([-/.]\d{1,2})?",
            r"\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}",
            r"\d{1,2}:\d\d(:\d\d)?(\s?[ap]\.?m\.?)?",
            r"\d{3,4}s",
            r"\d{1,2}(st|nd|rd|th) century",
            r"\d{1,4} (bc|ad|bce|ce)",
            _MONTH + r" \d{1,2}(st|nd|rd|th)?(,? \d{4})?",
            _MONTH + r",? \d{4}",
            r"\d{1,2}(st|nd|rd|th)?( of)? " + _MONTH + r"(,? \d{4})?",
        ]
    ),
    re.IGNORECASE,
)
_CODE = re.compile(
    r"\w\(|[{}\[\]=<>|\\`$@*^~]|::|->|(^|\s)--?\w|\w_|_\w"  # calls, operators, options, snake_case
    r"|[A-Za-z]{2}\.[A-Za-z_]\w|^\.\w|[a-z]{2}[A-Z]|[A-Za-z]\d"  # os.path, .csv, CamelCase, utf8
    r"|/\w+/|^/\w"  # /etc/hosts
)


def question_word(question: str) -> str:
    """What kind of question this is, by its first words.

    >>> question_word("In which module is it?"), question_word("If it fails, how long does it wait?")
    ('which', 'how many')
    """
    for clause in _CLAUSE.split(question):
        first = words(clause)[:3]
        if first and first[0] in _PREPOSITIONS and len(first) > 1 and first[1] in _QUESTION_WORDS:
            first = first[1:]
        if first and first[0] in _QUESTION_WORDS:
            many = first[0] == "how" and len(first) > 1 and first[1] in _AMOUNTS
            return "how many" if many else _QUESTION_WORDS[first[0]]
        if first and first[0] in _YES_NO and _GERMAN.isdisjoint(first):
            return "can/is/does"
    return OTHER


def answer_type(answer: str, question: str = "") -> str:
    """What an answer looks like; a year alone is a date only if the question asks when, or for a year.

    >>> answer_type("3 May 1999"), answer_type("1,024 MB"), answer_type("os.path.join"), answer_type("the last one")
    ('date', 'number', 'identifier or code', 'phrase')
    """
    shown = answer.strip()
    count = len(shown.split())
    if not shown or UNSPACED.search(shown):
        return OTHER
    if _DATE.fullmatch(shown):
        return "date"
    if _YEAR.fullmatch(shown) and (question_word(question) == "when" or "year" in words(question)):
        return "date"
    if _NUMBER.fullmatch(shown):
        return "number"
    if count >= 4 and shown.endswith((".", "!", "?")):
        return "sentence"
    if _CODE.search(shown) or not words(shown):
        return "identifier or code"
    return "one word" if count == 1 else "phrase" if count <= 12 else "sentence"


def content_words(question: str) -> set[str]:
    """The words of a question that say what it is about; none where words cannot be told apart.

    >>> sorted(content_words("How do I copy a file with shutil.copy?"))
    ['copy', 'file', 'shutil']
    """
    return set() if UNSPACED.search(question) else set(words(question)) - _STOP_WORDS
