"""BLEU of answers, by sacrebleu."""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU


def bleu(answer: str, references: Sequence[str]) -> float:
    """Sentence BLEU (0 to 1) against the reference that fits best.

    Only orders of n-grams that the answer is long enough for count (effective order), or every answer below four
    words would score 0. Case and punctuation count, unlike in exact match. An empty answer scores 0.

    >>> bleu("shutil.copy", ["os.rename", "shutil.copy"]), bleu("", ["os.rename"])
    (1.0, 0.0)

    Args:
        answer: as it was given.
        references: accepted answers.
    Source:
        Papineni et al., ACL 2002; Post, WMT 2018 (sacrebleu: 13a tokens, exponential smoothing).
    """
    scorer = _scorer()
    return max((_share(scorer.sentence_score(answer, [reference]).score) for reference in references), default=0.0)


def corpus_bleu(answers: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """BLEU (0 to 1) of all answers as one text, n-grams counted over the whole, all references of an answer at once.

    It is no mean over queries, so it has no interval by resampling them; compare systems by `bleu`.

    Args:
        answers: one per query.
        references: accepted answers of each query, at least one.
    Raises:
        ValueError: no answers, another number of references than of answers, or a query without reference.
    """
    if not answers or len(answers) != len(references):
        raise ValueError(
            f"BLEU needs references for each answer; got {len(answers)} answers, {len(references)} lists."
        )
    if bare := [number for number, texts in enumerate(references) if not texts]:
        raise ValueError(f"BLEU needs a reference for each answer; number {bare[0]} (from 0) has none.")
    most = max(map(len, references))
    # None where a query has fewer references: sacrebleu documents it, and its types do not know it.
    streams: list[Any] = [
        [texts[place] if place < len(texts) else None for texts in references] for place in range(most)
    ]
    return _share(_scorer().corpus_score(list(answers), streams).score)


@cache
def _scorer() -> "BLEU":
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(effective_order=True, force=True)  # force: no advice on text that looks tokenised


def _share(percent: float) -> float:
    return min(1.0, percent / 100)  # sacrebleu gives 100.00000000000004 for equal texts
