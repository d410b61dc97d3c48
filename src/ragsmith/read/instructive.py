"""Which questions a reader and a retriever can learn from, and what is said of the others."""

import logging
from collections.abc import Sequence

import pandas as pd

from ragsmith.read.extractive import ExtractiveReader
from ragsmith.read.live_index import LiveIndex, passage_faults
from ragsmith.read.rag_settings import RagQuestion, RagSettings
from ragsmith.read.readers import Reader
from ragsmith.retrieve.has_answer import found_by, has_answer, held_nowhere

logger = logging.getLogger(__name__)


def check_questions(train: Sequence[RagQuestion], dev: Sequence[RagQuestion], passages: pd.DataFrame) -> None:
    """Refuse what cannot be trained on, judged by or searched; all faults at once.

    Raises:
        ValueError: see `train_rag`.
    """
    faults = []
    if not dev:
        faults.append("there is no dev question with an answer, by which the best weights would be chosen: add some")
    if not train:
        faults.append("there is no training question with an answer")
    for name, questions in (("training", train), ("dev", dev)):
        bare = [question.query_id for question in questions if not any(answer.strip() for answer in question.answers)]
        if bare:
            faults.append(f"{len(bare)} {name} questions have no answer, such as {bare[0]}")
        ids = set(passages["passage_id"])
        lost = [question.query_id for question in questions if question.right - ids]
        if lost:
            faults.append(f"{len(lost)} {name} questions name passages that are not there, such as {lost[0]}")
        if len({question.query_id for question in questions}) < len(questions):
            faults.append(f"{name} questions stand twice: their query_id is not unique")
    faults += [f"in the knowledge base: {fault}" for fault in passage_faults(passages)]
    if faults:
        raise ValueError(f"Reader and retriever cannot be trained: {'; '.join(faults)}.")


def instructive(
    reader: Reader,
    train: Sequence[RagQuestion],
    index: LiveIndex,
    settings: RagSettings,
) -> tuple[list[RagQuestion], int, int]:
    """Leave out questions that would teach nothing; warnings say how many teach the reader nothing, or nothing at all.

    Returns:
        The others; and where a reader that marks spans has a part in the training, how many have no answer that it
        could mark in their right passages, and how many that nobody judged have none in any passage that it may read.
    Raises:
        ValueError: none is left for a reader that marks spans, or for the retriever.
    """
    # Where a right passage is known, or guessed, a contrastive loss teaches the retriever, whatever the reader reads.
    pulled = settings.encoders != "none" and settings.contrastive_weight > 0
    reads = settings.train_reader or settings.objective != "none"
    marks = reads and isinstance(reader, ExtractiveReader)
    lost = without_span(train, index) if marks else []
    empty = without_answer(train, index, settings) if marks else []
    unread = {question.query_id for question in ((*lost, *empty) if reads else train if pulled else ())}
    if len(unread) == len(train) and settings.train_reader:
        raise ValueError(
            "There is no training question with an answer that is a span of its right passages, or of one that may be "
            "found, and an extractive reader learns from no other. Choose a reader that writes its answer, such as "
            "rag_token."
        )
    if lost:
        logger.warning(
            "%d of %d training questions teach the reader nothing: no answer of theirs stands, word for word, in "
            "their right passages (%s). A reader that writes its answer could learn from them.",
            len(lost), len(train), named(lost),
        )  # fmt: skip
    if empty:
        logger.warning(
            "%d of %d training questions teach the reader nothing: nobody said which passages answer them, and none%s "
            "holds an answer (%s). Add passages that do.",
            len(empty), len(train), " that is found" if finds_the_same(settings) else "", named(empty),
        )  # fmt: skip
    left_out = [question for question in train if question.query_id in unread and not (pulled and question.right)]
    if len(left_out) == len(train):
        raise ValueError(
            "There is no training question that could teach the retriever: none has a right passage"
            + (", or an answer that stands in one that may be found." if reads else ".")
        )
    if left_out and not reads:
        logger.warning(
            "%d of %d training questions are left out: no right passage of theirs is known, and nothing else teaches "
            "the retriever (%s).",
            len(left_out), len(train), named(left_out),
        )  # fmt: skip
    gone = {question.query_id for question in left_out}
    return [question for question in train if question.query_id not in gone], len(lost), len(empty)


def named(questions: Sequence[RagQuestion]) -> str:
    """The first of some questions, by their ids."""
    return ", ".join([question.query_id for question in questions[:5]] + ["…"] * (len(questions) > 5))


def finds_the_same(settings: RagSettings) -> bool:
    """Whether each question gets the same passages as long as training lasts."""
    return settings.encoders == "none" or settings.search == "bm25"


def without_answer(questions: Sequence[RagQuestion], index: LiveIndex, settings: RagSettings) -> list[RagQuestion]:
    """Questions that nobody judged, of which no passage that may be read in training holds an answer.

    Where the retriever stays as it is, or has no part in the search, these are what is found now and what is guessed
    to be right; else all passages: it may find any of them later.
    """
    asked = [question for question in questions if not (question.right and question.judged)]
    if not asked:
        return []
    ids, texts = [question.query_id for question in asked], [question.text for question in asked]
    run = index.search(ids, texts, settings.passages, settings.search)
    found = run.groupby("query_id")["passage_id"].agg(set)
    missing = [
        question
        for question in asked
        if not any(
            has_answer(index.texts[index.row_of[passage_id]], found_by(question.answers))
            for passage_id in {*question.right, *found.get(question.query_id, ())}
        )
    ]
    if finds_the_same(settings) or not missing:
        return missing
    return [missing[place] for place in held_nowhere([found_by(one.answers) for one in missing], index.texts)]


def without_span(questions: Sequence[RagQuestion], index: LiveIndex) -> list[RagQuestion]:
    """Questions of which somebody knows the right passages, none of which holds an answer as a span."""
    return [
        question
        for question in questions
        if question.right
        and question.judged
        and not any(passage_id in question.right for passage_id, *_ in question.marks)
        and not any(
            answer and answer in index.texts[index.row_of[passage_id]]
            for answer in question.answers
            for passage_id in question.right
        )
    ]
