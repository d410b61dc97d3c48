"""Whether the passages that an answer cites support it: recall and precision of citations, after ALCE."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from ragsmith.evaluate._checks import listed, repeated, require_columns, some

# More than an extractive reader's answer ever has; a text of 100,000 characters has nothing to say as an answer.
_MOST_CHARACTERS = 4000


@dataclass(frozen=True)
class Claim:
    """An answer to a question, and the passages that shall support it, together."""

    question: str
    answer: str
    passages: tuple[str, ...]


class Supports(Protocol):
    """How surely the passages of each claim support its answer.

    `entailment.EntailmentModel` and `hallucination.HallucinationModel` do this; in a test, any function may.
    """

    def __call__(self, claims: Sequence[Claim], /) -> Sequence[float] | npt.NDArray[np.floating]:
        """A number from 0 to 1 for each claim, in their order."""


Known: TypeAlias = dict[Claim, float]


def score_citations(table: pd.DataFrame, supports: Supports, *, threshold: float = 0.5) -> pd.DataFrame:
    """Score the citations of each answer.

    A set of passages supports an answer if `supports` gives it more than `threshold`. Recall is 1 if all citations
    together support the answer. A citation is precise if recall is 1, and it supports the answer alone or the others
    do not without it; precision is the share of precise citations. An answer that cites nothing has neither. With one
    citation, as of the extractive reader, both are one number.

    Each set is asked about once; those without one citation only where they decide.

    Args:
        table: query_id, query, answer (str; missing counts as empty), citations (list of the cited passages' texts as
            they were read; equal ones count once, and blank ones support nothing).
        supports: see `Supports`.
        threshold: at least 0, below 1.
    Returns:
        query_id, citations (int), support (what `supports` gives all citations together), supported (1 if at least
            one citation supports the answer alone), citation_recall, citation_precision; the last four are NaN for an
            empty answer, which claims nothing. Rows as in `table`.
    Raises:
        ValueError: a column is missing, a query is there twice, or `supports` gives something that is no number from
            0 to 1 for each claim.

    Source:
        Gao et al., EMNLP 2023 (ALCE), section 4.3 and eval.py.
    """
    require_columns(table, "cited answers", ["query_id", "query", "answer", "citations"])
    if doubles := repeated(table, ["query_id"]):
        raise ValueError(f"More than one cited answer for query {some(double[0] for double in doubles)}; keep one.")
    claims = [
        _claim(query, answer, cited)
        for query, answer, cited in zip(table["query"], table["answer"], table["citations"], strict=True)
    ]
    made = [claim for claim in claims if claim.answer]
    known: Known = {}
    _ask(supports, [*made, *(_with(claim, [text]) for claim in made for text in claim.passages)], known)
    _ask(supports, [rest for claim in made for rest in _decisive(claim, known, threshold)], known)
    rows = [_scores(claim, known, threshold) for claim in claims]
    scores = pd.DataFrame(rows, columns=["citations", "support", "supported", "citation_recall", "citation_precision"])
    scores.insert(0, "query_id", table["query_id"].to_numpy())
    return scores


def _claim(query: object, answer: object, cited: object) -> Claim:
    passages = [str(text) for text in listed(cited)]
    said = "" if pd.isna(answer) else str(answer).strip()
    return Claim(str(query)[:_MOST_CHARACTERS], said[:_MOST_CHARACTERS], tuple(dict.fromkeys(passages)))


def _with(claim: Claim, passages: Sequence[str]) -> Claim:
    return Claim(claim.question, claim.answer, tuple(passages))


def _without(claim: Claim, cited: str) -> Claim:
    return _with(claim, [text for text in claim.passages if text != cited])


def _ask(supports: Supports, claims: Sequence[Claim], known: Known) -> None:
    """Put what is not known yet into `known`."""
    empty = {claim: 0.0 for claim in claims if not any(text.strip() for text in claim.passages)}
    known.update(empty)
    new = [claim for claim in dict.fromkeys(claims) if claim not in known]
    if not new:
        return
    values = np.asarray(supports(new), dtype=np.float64)
    # Comparisons with NaN are false, so NaN is refused too.
    if values.shape != (len(new),) or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(
            f"What says whether passages support answers has to give a number from 0 to 1 for each of {len(new)} "
            f"claims; it gave an array of shape {values.shape}"
            + (f", from {values.min()} to {values.max()}." if values.size else ".")
        )
    known.update(zip(new, values.tolist(), strict=True))


def _decisive(claim: Claim, known: Known, threshold: float) -> list[Claim]:
    """The claim without each citation that does not support it alone, where all together do."""
    if known[claim] <= threshold:
        return []
    return [_without(claim, text) for text in claim.passages if known[_with(claim, [text])] <= threshold]


def _scores(claim: Claim, known: Known, threshold: float) -> tuple[int, float, float, float, float]:
    count = len(claim.passages)
    if not claim.answer:
        return count, np.nan, np.nan, np.nan, np.nan
    alone = [known[_with(claim, [text])] > threshold for text in claim.passages]
    recall = known[claim] > threshold
    precise = [
        recall and (by_itself or known[_without(claim, text)] <= threshold)
        for text, by_itself in zip(claim.passages, alone, strict=True)
    ]
    precision = sum(precise) / count if count else 0.0
    return count, known[claim], float(any(alone)), float(recall), precision
