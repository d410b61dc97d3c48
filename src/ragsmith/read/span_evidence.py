"""How well marked spans follow from each passage: the loss of an extractive reader."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ragsmith.read.evidence import Evidence
from ragsmith.read.examples import ReadingExample, right_tokens
from ragsmith.read.extractive import EncodedPair, ExtractiveReader
from ragsmith.read.span_logits import span_scores
from ragsmith.retrieve.has_answer import found_by, has_answer

if TYPE_CHECKING:
    import torch

# In the place of minus infinity, whose gradient would be no number.
NONE = -1e9


def span_evidence(
    reader: ExtractiveReader, examples: Sequence[ReadingExample], prior: "torch.Tensor"
) -> "tuple[Evidence, torch.Tensor]":
    """Loss and likelihoods of the right spans.

    The loss is normalised over all spans of all passages, each passage's spans weighted by its prior (shared
    normalisation, Clark and Gardner 2018): the right spans' share of Σ_z p(z | x) Σ_span exp(start + end). REALM (Guu
    et al. 2020) weights passages by the same prior, and its spans compete within their own passage alone. The
    likelihoods p(y | x, z) are shares within one passage.

    Args:
        reader: with gradient.
        examples: each with one passage or more; spans of its `right` passages are right, or when none of these is
            there, of those that hold an answer.
        prior: from `log_prior`, shape (questions, passages).
    Returns:
        The evidence, and bool of shape (questions,): whether a right span stands in what was read. The others have
        loss 0.
    """
    import torch

    shown = [(example.question, passage.text) for example in examples for passage in example.passages]
    longest = reader.settings.max_answer_tokens
    pairs = reader.encode_all([question for question, _ in shown], [text for _, text in shown])
    start, end = reader.logits(pairs)
    scores = span_scores(start, end, longest).clamp_min(NONE)
    every = scores.flatten(1).logsumexp(dim=1)
    marked = torch.zeros_like(scores, dtype=torch.bool)
    first = 0
    for example in examples:
        count = len(example.passages)
        for row, begin, behind in right_spans(example, pairs[first : first + count], longest):
            marked[first + row, begin, behind] = True
        first += count
    right = scores.masked_fill(~marked, NONE).flatten(1).logsumexp(dim=1)
    rows = [(row, place) for row, example in enumerate(examples) for place in range(len(example.passages))]
    places = torch.tensor(rows, device=start.device).T
    some = marked.flatten(1).any(dim=1)
    holding = torch.zeros_like(prior, dtype=torch.bool).index_put((places[0], places[1]), some)
    of_all, of_right = (
        torch.full(prior.shape, NONE, device=start.device).index_put((places[0], places[1]), values)
        for values in (every, right)
    )
    readable = holding.any(dim=1)
    whole = prior.clamp_min(NONE)  # an absent passage has no share
    nll = (whole + of_all).logsumexp(dim=1) - (whole + of_right).logsumexp(dim=1)
    likelihood = (of_right - of_all).masked_fill(~holding, NONE)
    return Evidence(nll.masked_fill(~readable, 0.0), likelihood), readable


def right_spans(example: ReadingExample, pairs: Sequence[EncodedPair], longest: int) -> list[tuple[int, int, int]]:
    """The spans that count as right: number of the passage, first token, tokens behind it.

    Args:
        example: as of `span_evidence`.
        pairs: its passages as read.
        longest: tokens of a span; an answer that is longer is none.
    """
    known = example if example.right & {passage.passage_id for passage in example.passages} else held(example)
    starts, ends = right_tokens(known, pairs)
    return [
        (row, begin, finish - begin)
        for (row, begin), (_, finish) in zip(starts, ends, strict=True)
        if finish - begin < longest
    ]


def held(example: ReadingExample) -> ReadingExample:
    """The example with the passages counted as right that hold an answer (distant supervision, Chen et al. 2017)."""
    accepted = found_by(example.answers)
    right = (passage.passage_id for passage in example.passages if has_answer(passage.text, accepted))
    return replace(example, right=frozenset(right))
