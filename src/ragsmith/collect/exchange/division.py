"""Questions of records divided into train, dev and test, so that no document is in two of them."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ragsmith.collect.questions import ANSWERS, GOLD_COLUMNS, JUDGED, example_id, query_id
from ragsmith.collect.split import assign, connected

# What a document or a text that stands in several splits belongs to: what is judged is never trained on.
STRICTNESS = {"": 0, "train": 1, "dev": 2, "test": 3}
DIVIDED_COLUMNS = [*GOLD_COLUMNS, "positive_scores", "negative_ids", "negative_scores", "split", "supervision"]

UNANSWERED = "neither a passage nor an answer"
JOINED = "joined with the same question"
ASKED_AGAIN = "asked in another split too"
TAKEN = "about a document of the gold questions"
SHARED = "about a document of another split"


def answered_questions(
    questions: pd.DataFrame, passages: pd.DataFrame, duplicates: pd.DataFrame
) -> tuple[pd.DataFrame, dict[str, int]]:
    """The questions that have a passage or an answer, each text once.

    Of passages, those count that are left after duplicates. A text that is asked several times is one question with
    all its passages. When files of different splits ask it, the strictest keeps it (test, then dev). When several
    files score its passages, the scores of the first alone count: the others may be of another teacher.

    Args:
        questions: from `record_questions`.
        passages: passage_id, document_id, text.
        duplicates: passage_id, duplicate_of.
    Returns:
        query_id, text, passage_ids, answers (without any: the texts of the right passages, which in WikiQA are
        sentences), document_ids, file (of several, the first), positive_scores (one per passage, NaN where it has
        none), negative_ids, negative_scores (so too), split, supervision (`judged`, or `answers` where no passage is
        known); and how many have no row of their own, by reason.
    """
    kept_as = dict(zip(duplicates["passage_id"], duplicates["duplicate_of"], strict=True))
    document_of = dict(zip(passages["passage_id"], passages["document_id"], strict=True))
    text_of = dict(zip(passages["passage_id"], passages["text"], strict=True))
    by_text: dict[str, list[Any]] = {}
    left_out = {UNANSWERED: 0, ASKED_AGAIN: 0, JOINED: 0}
    for row in questions.itertuples(index=False):
        if len(row.passage_ids) or len(row.answers):
            by_text.setdefault(" ".join(row.text.casefold().split()), []).append(row)
        else:
            left_out[UNANSWERED] += 1
    rows = []
    for asked in by_text.values():
        split = max((row.split for row in asked), key=STRICTNESS.__getitem__)
        kept = [row for row in asked if row.split in {split, ""}]
        left_out[ASKED_AGAIN] += len(asked) - len(kept)
        left_out[JOINED] += len(kept) - 1
        positives = list(dict.fromkeys(kept_as.get(found, found) for row in kept for found in row.passage_ids))
        named = dict.fromkeys(kept_as.get(found, found) for row in kept for found in row.negative_ids)
        negatives = [found for found in named if found not in positives]
        scores = scores_of_first_file(kept, kept_as)
        rows.append(
            {
                "query_id": query_id(kept[0].text),
                "text": kept[0].text,
                "passage_ids": positives,
                "answers": list(dict.fromkeys(answer for row in kept for answer in row.answers))
                or [text_of[found] for found in positives],
                "document_ids": sorted({document_of[found] for found in positives}),
                "file": kept[0].origin,
                "positive_scores": [scores.get(found, float("nan")) for found in positives],
                "negative_ids": negatives,
                "negative_scores": [scores.get(found, float("nan")) for found in negatives],
                "split": split,
                "supervision": JUDGED if positives else ANSWERS,
            }
        )
    return pd.DataFrame(rows, columns=DIVIDED_COLUMNS), left_out


def scores_of_first_file(rows: Sequence[Any], kept_as: dict[str, str]) -> dict[str, float]:
    """The scores of passages by the first file that has any, of rows that ask the same.

    Args:
        rows: from `record_questions`.
        kept_as: of a passage that was dropped as a duplicate, the one that was kept.
    Returns:
        By passage id; of copies, and of what several rows score, the first score.
    """
    scored = [row for row in rows if len(row.positive_scores) or len(row.negative_scores)]
    found: dict[str, float] = {}
    for row in scored:
        if row.origin != scored[0].origin:
            continue
        for names, scores in ((row.passage_ids, row.positive_scores), (row.negative_ids, row.negative_scores)):
            for name, score in zip(names, scores, strict=True) if len(scores) else ():
                found.setdefault(kept_as.get(name, name), score)
    return found


def require_training(questions: pd.DataFrame, answered: pd.DataFrame) -> None:
    """Refuse records of which no training question is left because dev and test ask them all.

    Args:
        questions: from `record_questions`.
        answered: from `answered_questions`.
    Raises:
        ValueError: there are such questions, and each is asked in a file of dev or test too.
    """
    named = int((questions["split"] == "train").sum())
    if named and len(answered) and not answered["split"].isin(["train", ""]).any():
        raise ValueError(
            f"All {named} training questions of the records are asked in their files of dev or test too, and what is "
            "judged by is never trained on. Leave them out of those files; without such files, dev and test are taken "
            "out of the training questions."
        )


def divide_questions(
    questions: pd.DataFrame, taken: Iterable[str], shares: dict[str, float], seed: int, complete: bool
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Give every question a split, and leave out those that would make a document be in two.

    The name of a question's file decides, where it says something; then a document belongs to the strictest of the
    splits that ask about it, and questions of the others about it are left out. Questions of other files are divided
    by document: those about a document that has a split already follow it. A question of which no document is known
    is divided by itself.

    Args:
        questions: from `answered_questions`.
        taken: documents that gold questions written by hand are about: they are theirs.
        shares: of train, dev and test, for what no name decides.
        seed: another seed, another division.
        complete: take dev and test out of the training questions, by document, if there are none otherwise.
    Returns:
        The questions with their split, in their order; and how many were left out, by reason.
    """
    theirs = set(taken)
    free = questions["document_ids"].map(theirs.isdisjoint).astype(bool)
    # A question without documents is about something of its own: no document ties it to another.
    about = [list(found) or [of] for found, of in zip(questions["document_ids"], questions["query_id"], strict=True)]
    rows = questions.assign(document_ids=pd.Series(about, index=questions.index, dtype=object))[free]
    split_of: dict[str, str] = {}
    for documents, split in zip(rows["document_ids"], rows["split"], strict=True):
        for found in documents if split else ():
            split_of[found] = max(split_of.get(found, ""), split, key=STRICTNESS.__getitem__)
    fixed = dict(split_of)
    unnamed = connected(rows.loc[rows["split"] == "", "document_ids"])
    undecided = []
    for documents, count in unnamed:
        touched = {fixed[found] for found in documents if found in fixed}
        if not touched:
            undecided.append((documents, count))
        elif len(touched) == 1:
            split_of.update(dict.fromkeys(documents, touched.pop()))
    split_of |= assign(undecided, shares, seed)
    if complete:
        split_of |= completed(rows, split_of, shares, seed)
    chosen = [
        decided(documents, named, split_of, fixed)
        for documents, named in zip(rows["document_ids"], rows["split"], strict=True)
    ]
    divided = questions[free].assign(split=chosen)
    kept = divided[divided["split"] != ""].reset_index(drop=True)
    return kept, {TAKEN: int((~free).sum()), SHARED: len(divided) - len(kept)}


def completed(rows: pd.DataFrame, split_of: dict[str, str], shares: dict[str, float], seed: int) -> dict[str, str]:
    """New splits of training documents, so that dev and test are not empty; none when there are too few to divide."""
    wanted = [split for split in ("dev", "test") if split not in split_of.values()]
    training = connected(
        documents for documents in rows["document_ids"] if all(split_of.get(found) == "train" for found in documents)
    )
    if not wanted or len(training) <= len(wanted):
        return {}
    left = 1 - sum(shares[split] for split in wanted)
    return assign(training, {"train": left, **{split: shares[split] for split in wanted}}, seed)


def decided(documents: Sequence[str], named: str, split_of: dict[str, str], fixed: dict[str, str]) -> str:
    """The split of a question, or nothing when its documents do not all have the one that it may be in.

    Args:
        documents: that it is about.
        named: by its file, or empty.
        split_of: of documents, in the end.
        fixed: of documents, by the names of the files alone.
    """
    splits = {split_of.get(found, "") for found in documents}
    split = splits.pop() if len(splits) == 1 else ""
    # A training question may become a dev question with its whole document, but not because a dev file asks about it.
    may = named in {"", split} or all(fixed[found] == named == "train" for found in documents)
    return split if may else ""


def judged_questions(gold: pd.DataFrame, divided: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """All questions to judge by: those written by hand, and dev and test of the records.

    Args:
        gold: of those written by hand, as `resolve_questions` gives them.
        divided: from `divide_questions`.
    Returns:
        The columns of `gold`, split (empty: to be divided) and supervision, and how many of the records are asked by
        hand too.
    """
    judged = divided[divided["split"].isin(["dev", "test"])]
    again = judged["text"].str.casefold().isin(set(gold["text"].str.casefold())).astype(bool)
    tables = [gold.assign(split="", supervision=JUDGED), judged.loc[~again, [*GOLD_COLUMNS, "split", "supervision"]]]
    return pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True), int(again.sum())


def by_supervision(divided: pd.DataFrame) -> dict[str, dict[str, int]]:
    """How many questions each split has, by who says what answers them."""
    counts: dict[str, dict[str, int]] = {}
    for (supervision, split), rows in divided.groupby(["supervision", "split"]):
        counts.setdefault(str(supervision), {})[str(split)] = len(rows)
    return counts


def training_questions(divided: pd.DataFrame, examples: pd.DataFrame) -> pd.DataFrame:
    """The training questions of the records, without those that the examples written by hand ask."""
    asked = divided["text"].str.casefold().isin(set(examples["text"].str.casefold())).astype(bool)
    return divided[(divided["split"] == "train") & ~asked].reset_index(drop=True)


def given_negatives(questions: pd.DataFrame, passages: pd.DataFrame, splits: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The negatives that came with training questions, of training documents alone: dev and test are not trained on.

    Args:
        questions: query_id, negative_ids, negative_scores.
        passages: passage_id, document_id.
        splits: document_id, split.
    Returns:
        query_id (as the table of queries has it), passage_id, score (of the file, or missing); and how many were left
        out because their document is not a training document.
    """
    document_of = dict(zip(passages["passage_id"], passages["document_id"], strict=True))
    training = set(splits.loc[splits["split"] == "train", "document_id"])
    rows = [
        [example_id(question.query_id), found, score]
        for question in questions.itertuples(index=False)
        for found, score in zip(question.negative_ids, question.negative_scores, strict=True)
    ]
    kept = [row for row in rows if document_of[row[1]] in training]
    table = pd.DataFrame(kept, columns=["query_id", "passage_id", "score"]).astype({"score": "float64"})
    return table, len(rows) - len(kept)


def positive_scores(questions: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """What a teacher gave to the right passages of training questions, where he scored all that the records name.

    A question without negatives is none of them: there would be nothing to compare a score with.

    Args:
        questions: query_id, passage_ids, positive_scores, negative_scores.
    Returns:
        query_id (as the table of queries has it), passage_id, score; and how many questions have scores of some
        passages alone, or no negatives to their scores: these are left out.
    """
    rows: list[list[Any]] = []
    in_part = 0
    for question in questions.itertuples(index=False):
        right, wrong = list(question.positive_scores), list(question.negative_scores)
        scored = np.isfinite(np.asarray([*right, *wrong], dtype=np.float64))
        if right and wrong and scored.all():
            query_id = example_id(question.query_id)
            rows += [[query_id, name, score] for name, score in zip(question.passage_ids, right, strict=True)]
        else:
            in_part += bool(scored.any())
    table = pd.DataFrame(rows, columns=["query_id", "passage_id", "score"]).astype({"score": "float64"})
    return table, in_part
