"""SQuAD: articles in paragraphs, and questions with answers marked in them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ragsmith.collect.exchange.record_set import Answer, RecordDocument, RecordQuestion, RecordSet, merged, passage_id
from ragsmith.collect.exchange.source_text import (
    MAX_BYTES,
    Faults,
    is_text,
    read_text,
    shown,
    split_of_name,
    stem,
)


def read_squad(path: Path, max_bytes: int = MAX_BYTES) -> RecordSet:
    """Read SQuAD's JSON, version 1.1 or 2.0 (Rajpurkar et al., 2016 and 2018).

    A paragraph is a passage, an article a document; articles of one title are one document. Paragraphs without
    questions are knowledge base alone. The paragraph of a question marked `is_impossible` is its given negative: the
    question was written to look answerable by it. A question without answers that is not so marked (a test set keeps
    them back) is still about its paragraph.

    Args:
        path: `{"data": [{"title", "paragraphs": [{"context", "qas": […]}]}]}`; may be packed by gzip.
        max_bytes: most that it may hold when unpacked.
    Raises:
        ValueError: it cannot be read (`read_text`), is not JSON, or has parts that are not as they should be (such as
            an answer that does not stand where it is said to): all faults by their place, the first 20 shown.
    """
    faults = Faults(path)
    text = read_text(path, max_bytes)
    content = None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        faults.add(getattr(error, "lineno", 1), f"not JSON ({error})")
    faults.refuse()
    articles = content.get("data") if isinstance(content, dict) else None
    if not isinstance(articles, list):
        faults.add(1, "needs a list of articles under 'data'")
        faults.refuse()
    reading = _Reading(path, faults)
    sets = [reading.article(article, f"data[{number}]") for number, article in enumerate(articles or [])]
    if not faults.found and not any(found.documents for found in sets):
        faults.add(1, "no paragraph is in it")
    faults.refuse()
    return merged(sets)


class _Reading:
    """One file while it is read: question ids may occur once in all its articles."""

    def __init__(self, path: Path, faults: Faults) -> None:
        self.origin, self.split = stem(path), split_of_name(path)
        self.faults = faults
        self.seen: dict[str, str] = {}

    def article(self, article: Any, where: str) -> RecordSet:
        """An article with its questions; what is wrong with it goes to the faults."""
        paragraphs = article.get("paragraphs") if isinstance(article, dict) else None
        if not isinstance(paragraphs, list):
            self.faults.add(where, "needs a list under 'paragraphs'")
            return RecordSet()
        given = article.get("title")
        if given is not None and not is_text(given):
            self.faults.add(where, f"title is {shown(given)}, not a text")
            return RecordSet()
        # Without a title nothing says that two articles are one.
        title = " ".join(given.replace("_", " ").split()) if given else f"{self.origin} {where}"
        empty = RecordDocument(f"squad:{title}", title, ())
        texts: list[str] = []
        questions: list[RecordQuestion] = []
        for number, paragraph in enumerate(paragraphs):
            place = f"{where}.paragraphs[{number}]"
            context = paragraph.get("context") if isinstance(paragraph, dict) else None
            if not isinstance(context, str) or not is_text(context):
                self.faults.add(place, f"context is {shown(context)}, not a text")
                continue
            qas = paragraph.get("qas", [])
            if not isinstance(qas, list):
                self.faults.add(place, f"qas is {shown(qas)}, not a list")
                continue
            texts.append(context)
            questions += self.questions(qas, context, passage_id(empty.document_id, context), place)
        if not texts:
            return RecordSet()
        return RecordSet(
            (RecordDocument(empty.uri, title, tuple(dict.fromkeys(texts))),),
            tuple(questions),
        )

    def questions(self, qas: list[Any], context: str, identity: str, where: str) -> Iterator[RecordQuestion]:
        """The questions of a paragraph."""
        for number, qa in enumerate(qas):
            place = f"{where}.qas[{number}]"
            reason = question_fault(qa, context)
            if not reason:
                known = self.seen.setdefault(str(qa["id"]), place)
                reason = "" if known == place else f"its id {shown(qa['id'])} is that of {known}"
            if reason:
                self.faults.add(place, reason)
                continue
            impossible = qa.get("is_impossible", False)
            answers = [] if impossible else qa.get("answers", [])
            marked = dict.fromkeys((answer["text"], answer["answer_start"]) for answer in answers)
            yield RecordQuestion(
                question_id=f"{self.origin}:{qa['id']}",
                text=qa["question"],
                positive_ids=() if impossible else (identity,),
                negative_ids=(identity,) if impossible else (),
                answers=tuple(Answer(text, identity, start) for text, start in marked),
                split=self.split,
                origin=self.origin,
            )


def question_fault(qa: Any, context: str) -> str:
    """What is wrong with a question of a paragraph; empty when nothing is."""
    if not isinstance(qa, dict):
        return f"a question is {shown(qa)}, not an object"
    identity = qa.get("id")
    if not is_text(identity) and (isinstance(identity, bool) or not isinstance(identity, int)):
        return "needs an id"
    if not is_text(qa.get("question")):
        return f"question is {shown(qa.get('question'))}, not a text"
    if not isinstance(qa.get("is_impossible", False), bool):
        return f"is_impossible is {shown(qa['is_impossible'])}, not true or false"
    answers = qa.get("answers", [])
    if not isinstance(answers, list):
        return f"answers is {shown(answers)}, not a list"
    return next(filter(None, (answer_fault(answer, context) for answer in answers)), "")


def answer_fault(answer: Any, context: str) -> str:
    """What is wrong with one answer; empty when it stands where it is said to."""
    text = answer.get("text") if isinstance(answer, dict) else None
    start = answer.get("answer_start") if isinstance(answer, dict) else None
    if not isinstance(text, str) or not is_text(text) or isinstance(start, bool) or not isinstance(start, int):
        return f"an answer is {shown(answer)}; it needs a text and a whole number under 'answer_start'"
    if start < 0 or context[start : start + len(text)] != text:
        return f"the answer {shown(text)} is not at character {start} of the paragraph"
    return ""
