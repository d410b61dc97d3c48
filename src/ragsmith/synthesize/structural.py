"""Queries from the documents' own structure: headings and lead sentences. No model is needed."""

import hashlib
import re
from dataclasses import dataclass

import pandas as pd

from ragsmith.collect.sections import heading_name
from ragsmith.synthesize.tables import QUERY_COLUMNS

CALL = re.compile(r"^[A-Za-z_][\w.]*(\(.*|)$")
# A sentence ends at a full stop, question or exclamation mark, or colon before white space, or at a blank line.
SENTENCE_END = re.compile(r"(?<![ (.][a-z])[.?!:](?=\s|$)|\n\s*\n")
CALL_LINE = re.compile(r"^\s*(?:[\w.]+\(.*\)\s*(?:-+>.*)?|[\w.]+\s*:\s*\w+|>>>.*|\s*[*=\-~]+\s*)$")
WORD = re.compile(r"[A-Za-z]{2,}")
# How a reference states what a thing does, and how a person asks for it. First match wins.
QUESTION_FORMS: list[tuple[re.Pattern[str], tuple[str, ...]]] = [
    (
        re.compile(
            r"^(?:returns?|check|checks|tests?|determines?) (?:true|1|whether|if)(?: if| when| iff)?,? (.*?)"
            r"(?:[,;] (?:otherwise|else|and) .*| otherwise| or not)?$",
            re.I,
        ),
        ("How can I tell whether {}?", "Is there a way to check that {}?", "find out if {}"),
    ),
    (
        re.compile(r"^(?:returns?|gets?|retrieves?|yields?|gives?) (.*)$", re.I),
        ("How do I get {}?", "What gives me {}?", "I need {}", "find {}"),
    ),
    (
        re.compile(
            r"^(?:an?|the) "
            r"((?:class|object|function|method|subclass|version|type|wrapper|context manager)\b.*)$",
            re.I,
        ),
        ("Is there a {}?", "What is the {}?"),
    ),
]
IMPERATIVE_FORMS = ("How do I {}?", "I want to {}", "How can I {}?", "{}")
# Verbs that open a sentence of documentation. A list: "Class for reading" must not become "How do I class".
VERBS = set(
    "abort accept acquire add adjust allocate allow append apply assert assign attach attempt begin bind block "
    "break build calculate call cancel change check clean clear clone close collect combine compare compile "
    "complete compress compute configure connect construct consume convert copy count create decode decompress "
    "decrease define delay delete delegate describe deserialize destroy detach determine dial disable discard "
    "disconnect display divide do download drop dump duplicate emit empty enable encode end enqueue ensure enter "
    "escape evaluate examine execute exit expand export extend extract factor fetch fill filter find finish flush "
    "force format forward generate grow guess handle hash hide ignore implement import increase increment indicate "
    "inherit initialize insert inspect install instantiate invert invoke issue iterate join kill launch limit list "
    "listen load locate lock log look make map mark match merge migrate modify mount move multiply negate normalize "
    "notify obtain open override pack parse pass pause perform pickle place pop prepare prepend preserve prevent "
    "print process produce provide prune push put quote raise read rebuild receive record recover redirect reduce "
    "refresh register reject release reload remove rename render repeat replace report request reset resize resolve "
    "restore resume retrieve reverse rotate round run sample save scan schedule search seek select send serialize "
    "serve set shift show shuffle shut shutdown skip sleep sort specify split start stop store strip substitute "
    "subtract suspend swap switch sync synchronize take tell terminate test throw tokenize toggle trace transfer "
    "transform translate transmit traverse trim truncate try turn undo unescape uninstall unload unlock unpack "
    "unquote unregister unset update upload use validate verify visit wait wake walk warn wrap write yield "
    "zero".split()
)


@dataclass(frozen=True)
class LeadSentence:
    """The first sentence of a passage below its heading; `start` and `end` are offsets in the passage's text."""

    text: str
    start: int
    end: int


def lead_sentence(text: str, heading: str) -> LeadSentence | None:
    """The first sentence that says something, or None.

    Args:
        text: a passage that begins with its heading, or has none.
        heading: that heading as written; lines that repeat a call's signature are passed over.
    """
    position = len(heading) if heading and text.startswith(heading) else 0
    while position < len(text):
        rest = text[position:]
        position += len(rest) - len(rest.lstrip())
        line_end = text.find("\n", position)
        line = text[position : line_end if line_end >= 0 else len(text)]
        if not line or not CALL_LINE.match(line):
            break
        position += len(line)
    end_mark = SENTENCE_END.search(text, position)
    end = end_mark.start() if end_mark else len(text)
    sentence = text[position:end].strip()
    if len(WORD.findall(sentence)) < 3 or len(sentence) > 300:
        return None
    return LeadSentence(" ".join(sentence.split()), position, min(end + 1, len(text)))


def without_name(sentence: str, name: str) -> str:
    """The sentence with the object's own name taken out, so that the query does not give its answer away.

    >>> without_name("disk_usage returns the space left", "shutil.disk_usage")
    'returns the space left'
    """
    short = name.rpartition(".")[2]
    # A plain word such as "category" is also just the right word; only what looks like code gives the answer away.
    coded = not short.islower() or "_" in short or any(letter.isdigit() for letter in short)
    ending = "(?:\\(\\))?" if coded else "\\(\\)"
    cleaned = re.sub(rf"(?<!\w)(?:[\w.]+\.)?{re.escape(short)}{ending}(?!\w)", "", sentence, flags=re.IGNORECASE)
    return " ".join(cleaned.split()).strip(" ,;:-")


def question(sentence: str, choice: int) -> str:
    """The sentence as somebody would ask for it; `choice` picks among the forms that fit.

    >>> question("Return the number of free bytes", 0)
    'How do I get the number of free bytes?'
    >>> question("Return True if the path is a link, otherwise False", 0)
    'How can I tell whether the path is a link?'
    """
    for pattern, forms in QUESTION_FORMS:
        match = pattern.match(sentence)
        if match is None:
            continue
        return forms[choice % len(forms)].format(lower_first(match.group(1)))
    verb, _, rest = sentence.partition(" ")
    base = base_form(verb.lower())
    if base is None or not rest:
        return sentence
    return IMPERATIVE_FORMS[choice % len(IMPERATIVE_FORMS)].format(f"{base} {rest}")


def base_form(verb: str) -> str | None:
    """The verb as it stands in a request, or None when the word is no known verb.

    >>> base_form("converts"), base_form("copies"), base_form("class")
    ('convert', 'copy', None)
    """
    candidates = [verb]
    if verb.endswith("s"):
        candidates += [verb[:-1], verb[:-2], verb[:-3] + "y" if verb.endswith("ies") else verb]
    return next((candidate for candidate in candidates if candidate in VERBS), None)


def lower_first(text: str) -> str:
    """Lower the first letter, unless the first word is an acronym."""
    return text[:1].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text


def generate_queries(passages: pd.DataFrame, splits: pd.DataFrame, required: bool = True) -> pd.DataFrame:
    """Two queries per passage that opens a section: its lead sentence, plain and as a question; one per prose heading.

    Args:
        passages: passage_id, document_id, title, text.
        splits: document_id, split.
        required: none at all is an error.
    Returns:
        query_id, text, kind (`lead`, `question`, `heading`), split (of the document), origin (`structural`), file
        (none), passage_id (the positive), cut_start and cut_end (the stretch of the passage's text that the query was
        taken from: training leaves it out part of the time, so that a match of words alone is not enough).
    Raises:
        ValueError: no passage opens a section with something to ask for.
    """
    split_of = dict(zip(splits["document_id"], splits["split"], strict=True))
    rows: list[dict[str, object]] = []
    for passage in passages.itertuples(index=False):
        split = split_of.get(passage.document_id)
        name = passage.title.rpartition(" > ")[2]
        heading = passage.text.partition("\n")[0]
        if split is None or heading_name(heading) != name:
            continue  # a later piece of a long section: its first sentence is not about the section
        lead = lead_sentence(passage.text, heading)
        texts: list[tuple[str, str, int, int]] = []
        if lead is not None:
            bare = without_name(lead.text, name)
            if len(WORD.findall(bare)) >= 3:
                choice = int.from_bytes(hashlib.sha256(passage.passage_id.encode()).digest()[:4], "big")
                texts.append((bare, "lead", lead.start, lead.end))
                texts.append((question(bare, choice), "question", lead.start, lead.end))
        if not CALL.match(heading) and len(WORD.findall(heading)) >= 2:
            texts.append((name, "heading", 0, len(heading)))
        for text, kind, start, end in texts:
            identity = f"{passage.passage_id}\n{kind}\n{text}"
            rows.append(
                {
                    "query_id": "q-" + hashlib.sha256(identity.encode()).hexdigest()[:12],
                    "text": text,
                    "kind": kind,
                    "split": split,
                    "origin": "structural",
                    "file": "",
                    "passage_id": passage.passage_id,
                    "cut_start": start,
                    "cut_end": end,
                }
            )
    if not rows and required:
        raise ValueError(
            f"No query could be made from {len(passages)} passages: structural queries come from Markdown headings "
            "and the sentence below them. Give the documents headings (# Title) and the suffix .md."
        )
    return pd.DataFrame(rows, columns=QUERY_COLUMNS).drop_duplicates("query_id", ignore_index=True)
