"""Right passages for questions that have answers alone: the best that sparse search finds and that holds an answer."""

from functools import cache

import pandas as pd

from ragsmith.collect.questions import ANSWERS, DISTANT, JUDGED
from ragsmith.retrieve.bm25 import BM25Index
from ragsmith.retrieve.has_answer import found_by, holds, joined_tokens, sought_tokens
from ragsmith.retrieve.passage_text import passage_inputs

DEPTH = 100  # as in DPR


def supervise(
    questions: pd.DataFrame, by_hand: pd.DataFrame, passages: pd.DataFrame, depth: int = DEPTH
) -> tuple[pd.DataFrame, int]:
    """Give training questions with answers alone the passage that BM25 ranks first of those which hold an answer.

    It is a guess: a short answer stands in passages that do not answer, and by "yes" and "no" none is looked for. So
    no test question gets one, and dev questions do only where no dev question has a passage that somebody judged: a
    retriever could not be steered otherwise. Documents that judged questions of dev and test are about are left to
    them.

    Args:
        questions: text, passage_ids, answers, document_ids, split, supervision; from `divide_questions`.
        by_hand: document_ids: gold questions that are still to be divided into dev and test.
        passages: passage_id, document_id, title, text.
        depth: passages that are looked through for each.
    Returns:
        The questions; those for which one was found have it in passage_ids and `distant` under supervision, and those
        of train its document in document_ids. And for how many none was found.
    Source:
        Karpukhin et al., EMNLP 2020, section 4.2; Chen et al., ACL 2017, section 4.2.
    """
    judged = questions[questions["split"].isin(["dev", "test"])]
    steered = len(by_hand) > 0 or ((judged["split"] == "dev") & (judged["supervision"] == JUDGED)).any()
    wanted = questions["split"].isin(["train"] if steered else ["train", "dev"])
    wanted &= questions["supervision"] == ANSWERS
    taken = {found for table in (by_hand, judged) for documents in table["document_ids"] for found in documents}
    others = passages[~passages["document_id"].isin(taken)]
    if not wanted.any() or others.empty:
        return questions, int(wanted.sum())
    search = _Search(others, depth)
    document_of = dict(zip(others["passage_id"], others["document_id"], strict=True))
    rows = questions.to_dict("records")
    missed = 0
    for asked in (row for row, chosen in zip(rows, wanted, strict=True) if chosen):
        passage_id = search.first(asked["text"], asked["answers"])
        if passage_id is None:
            missed += 1
            continue
        asked |= {"passage_ids": [passage_id], "supervision": DISTANT}
        if asked["split"] == "train":  # a guess does not make a document one of dev
            asked["document_ids"] = [document_of[passage_id]]
    return pd.DataFrame(rows, columns=questions.columns), missed


class _Search:
    """Sparse search for passages that hold an answer; each passage is split into tokens once."""

    def __init__(self, passages: pd.DataFrame, depth: int) -> None:
        self.index = BM25Index(passages["passage_id"].tolist(), passage_inputs(passages))
        self.depth = min(depth, len(passages))
        texts = passages["text"].tolist()
        self.tokens = cache(lambda row: joined_tokens(texts[row]))

    def first(self, question: str, answers: list[str]) -> str | None:
        sought = sought_tokens(found_by(answers))
        _, found = self.index.search([question], self.depth)
        rows = (row for row in found[0].tolist() if row >= 0 and holds(self.tokens(row), sought))
        return next((self.index.passage_ids[row] for row in rows), None)
