"""Which questions a reader and a retriever can learn from, and what is said of the others."""

import logging
from collections.abc import Iterable, Sequence
from itertools import islice

import pandas as pd

from ragsmith.read.extractive import ExtractiveReader
from ragsmith.read.live_index import LiveIndex, passage_faults
from ragsmith.read.rag_settings import RagQuestion, RagSettings
from ragsmith.read.readers import Reader
from ragsmith.read.shown import reading_example
from ragsmith.read.span_evidence import right_spans
from ragsmith.retrieve.has_answer import found_by, has_answer, holders

logger = logging.getLogger(__name__)

BLOCK = 512  # pairs of question and passage that are taken apart into tokens at once


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
    lost: list[RagQuestion] = []
    empty: list[RagQuestion] = []
    span = ""
    if reads and isinstance(reader, ExtractiveReader):
        lost, empty = without_span(reader, train, index, settings), without_answer(reader, train, index, settings)
        span = (
            f"a span of at most {reader.settings.max_answer_tokens} tokens (max_answer_tokens) within the "
            f"{reader.settings.max_tokens} that are read of question and passage (max_tokens)"
        )
    unread = {question.query_id for question in ((*lost, *empty) if reads else train if pulled else ())}
    if len(unread) == len(train) and settings.train_reader:
        raise ValueError(
            "There is no training question with an answer that is a span of its right passages, or of one that may be "
            f"found, and an extractive reader learns from no other: from {span}. Choose a reader that writes its "
            "answer, such as rag_token, or raise these limits where answers are longer or stand further behind."
        )
    if lost:
        logger.warning(
            "%d of %d training questions teach the reader nothing: no answer of theirs stands, word for word, in "
            "their right passages as %s (%s). A reader that writes its answer could learn from them.",
            len(lost), len(train), span, named(lost),
        )  # fmt: skip
    if empty:
        logger.warning(
            "%d of %d training questions teach the reader nothing: nobody said which passages answer them, and none%s "
            "holds an answer as %s (%s). Add passages that do.",
            len(empty), len(train), " that is found" if finds_the_same(settings) else "", span, named(empty),
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


def without_answer(
    reader: ExtractiveReader, questions: Sequence[RagQuestion], index: LiveIndex, settings: RagSettings
) -> list[RagQuestion]:
    """Questions that nobody judged, of which no passage that may be read in training holds an answer as a span.

    Where the retriever stays as it is, or has no part in the search, these are what is found now and what is guessed
    to be right; else all passages: it may find any of them later.
    """
    asked = [question for question in questions if not (question.right and question.judged)]
    if not asked:
        return []
    ids, texts = [question.query_id for question in asked], [question.text for question in asked]
    run = index.search(ids, texts, settings.passages, settings.search)
    found = run.groupby("query_id")["passage_id"].agg(set)
    near = (
        (question, index.row_of[passage_id])
        for question in asked
        for passage_id in {*question.right, *found.get(question.query_id, ())}
        if has_answer(index.texts[index.row_of[passage_id]], found_by(question.answers))
    )
    missing = unmarkable(reader, asked, near, index, settings)
    if finds_the_same(settings) or not missing:
        return missing
    held = holders([found_by(question.answers) for question in missing], index.texts)
    anywhere = ((missing[place], row) for row, places in held for place in places)
    return unmarkable(reader, missing, anywhere, index, settings)


def without_span(
    reader: ExtractiveReader, questions: Sequence[RagQuestion], index: LiveIndex, settings: RagSettings
) -> list[RagQuestion]:
    """Questions of which somebody knows the right passages, none of which holds an answer as a span."""
    asked = [question for question in questions if question.right and question.judged]
    pairs = ((question, index.row_of[passage_id]) for question in asked for passage_id in question.right)
    return unmarkable(reader, asked, pairs, index, settings)


def unmarkable(
    reader: ExtractiveReader,
    questions: Sequence[RagQuestion],
    pairs: Iterable[tuple[RagQuestion, int]],
    index: LiveIndex,
    settings: RagSettings,
) -> list[RagQuestion]:
    """Questions of which training could mark no answer in any passage beside them: too long, not read, or not there.

    Args:
        reader: its tokens decide.
        questions: any.
        pairs: of them and rows of passages whose spans would count as right; read as far as they are needed.
        index: the passages.
        settings: how often the stretch that a question was taken from is left out.
    """
    cuts = [cut for cut, share in ((False, 1 - settings.cut_probability), (True, settings.cut_probability)) if share]
    left, coming = {question.query_id for question in questions}, iter(pairs)
    while left and (block := list(islice(coming, BLOCK))):
        for cut in cuts:
            asked = [(question, row) for question, row in block if question.query_id in left]
            shown = [reading_example(question, [(row, 0.0)], index, cut) for question, row in asked]
            read = reader.encode_all([one.question for one in shown], [one.passages[0].text for one in shown])
            left -= {
                question.query_id
                for (question, _), one, pair in zip(asked, shown, read, strict=True)
                if right_spans(one, [pair], reader.settings.max_answer_tokens)
            }
    return [question for question in questions if question.query_id in left]
