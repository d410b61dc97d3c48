"""Score short answers per query: exact match and token F1, as SQuAD v1.1 does, BLEU and ROUGE."""

import logging
from collections import Counter
from collections.abc import Iterable

import pandas as pd

from ragsmith.evaluate._checks import repeated, require_columns, some
from ragsmith.evaluate.bleu import bleu
from ragsmith.evaluate.rouge import KINDS, rouge
from ragsmith.read.same_answer import exact_match, normalise

logger = logging.getLogger(__name__)

COLUMNS = ("em", "f1", "bleu", *KINDS)


def token_f1(answer: str, references: Iterable[str]) -> float:
    """Harmonic mean of token precision and recall, against the reference that fits best. An empty answer scores 0.

    >>> token_f1("global lock", ["global interpreter lock"])
    0.8
    """
    return max((_pair_f1(normalise(answer), normalise(reference)) for reference in references), default=0.0)


def _pair_f1(answer: str, reference: str) -> float:
    answer_tokens, reference_tokens = answer.split(), reference.split()
    shared = (Counter(answer_tokens) & Counter(reference_tokens)).total()
    # 2PR / (P + R) with P = shared / answer tokens and R = shared / reference tokens.
    return 2 * shared / (len(answer_tokens) + len(reference_tokens)) if shared else 0.0


def score_answers(predictions: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """Score one answer per query against its references; the best reference counts.

    A query without prediction, or with an empty one, scores 0 and stays in the table. Where no query has an answer,
    all scores are 0, and the log says so.

    Args:
        predictions: query_id, answer (str; missing counts as empty); at most one row for each query.
        answers: query_id, answers (list of str). Several rows for a query add up their references.
    Returns:
        query_id, em (0 or 1), f1, bleu, rouge1, rouge2, rougeL (0 to 1); queries as they first appear in `answers`.
    Raises:
        ValueError: a column is missing, no references at all, a query has an empty list of references, is predicted
            twice, or is predicted without standing in `answers`.
    """
    require_columns(predictions, "predictions", ["query_id", "answer"])
    require_columns(answers, "answers", ["query_id", "answers"])
    references: dict[str, list[str]] = {}
    for query_id, texts in zip(answers["query_id"], answers["answers"], strict=True):
        references.setdefault(query_id, []).extend(texts if texts is not None else [])
    _check(predictions, references)
    given = {
        query_id: "" if pd.isna(answer) else str(answer)
        for query_id, answer in zip(predictions["query_id"], predictions["answer"], strict=True)
    }
    if not any(answer.strip() for answer in given.values()):
        logger.warning("All %d answers are empty, so each scores 0: look at the reader.", len(references))
    rows = []
    for query_id, texts in references.items():
        answer = given.get(query_id, "")
        words = rouge(answer, texts)
        rows.append(
            (query_id, exact_match(answer, texts), token_f1(answer, texts), bleu(answer, texts), *words.values())
        )
    return pd.DataFrame(rows, columns=["query_id", *COLUMNS])


def _check(predictions: pd.DataFrame, references: dict[str, list[str]]) -> None:
    if not references:
        raise ValueError("The answers table is empty, so no answer can be scored. Check the split it was taken from.")
    faults = []
    if bare := [query_id for query_id, texts in references.items() if not texts]:
        faults.append(f"no reference answer for query {some(bare)}; drop these queries from answers.")
    if unknown := sorted(set(predictions["query_id"]) - set(references), key=str):
        faults.append(f"predictions for queries that answers lack: {some(unknown)}; check that both are of one split.")
    if doubles := repeated(predictions, ["query_id"]):
        faults.append(f"more than one prediction for query {some(double[0] for double in doubles)}; keep the best.")
    if faults:
        raise ValueError("Cannot score these answers:\n- " + "\n- ".join(faults))
