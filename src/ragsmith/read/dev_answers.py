"""How many dev questions a reader answers, and the weight of the prior that answers most."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ragsmith.read.examples import ReadingExample
from ragsmith.read.extractive import ExtractiveReader
from ragsmith.read.reading import Span
from ragsmith.read.same_answer import exact_match
from ragsmith.retrieve.has_answer import has_answer


def exact_share(spans: Sequence[Span | None], examples: Sequence[ReadingExample]) -> float:
    """Share of the examples whose span is an accepted answer, by the exact match of the report."""
    right = sum(
        span is not None and exact_match(span.text, e.answers) for span, e in zip(spans, examples, strict=True)
    )
    return right / len(examples)


def holds_answer(example: ReadingExample) -> bool:
    """Whether a right passage is among those of the example; where none is known, whether one has an answer."""
    if example.right:
        return any(passage.passage_id in example.right for passage in example.passages)
    return any(has_answer(passage.text, example.answers) for passage in example.passages)


def prior_entropy(cosines: Sequence[Sequence[float]], temperature: float) -> float:
    """Mean entropy of the softmax over the passages of each question: 1 where all score alike, 0 where one has all.

    Args:
        cosines: of each question's passages; questions with one passage are passed over.
        temperature: they are divided by it.
    Returns:
        As a share of the highest that there can be; 0 where no question has two passages.
    """
    shares = []
    for some in cosines:
        if len(some) > 1:
            scores = np.asarray(some, dtype=np.float64) / temperature
            logs = scores - scores.max()
            logs -= np.log(np.exp(logs).sum())
            shares.append(-(np.exp(logs) * logs).sum() / np.log(len(some)))
    return float(np.mean(shares)) if shares else 0.0


def tune_prior(
    reader: ExtractiveReader, dev: Sequence[ReadingExample], weights: Sequence[float]
) -> tuple[float, list[dict[str, float]]]:
    """The prior weight with the highest exact match on dev; of equals, the first.

    Args:
        reader: trained.
        dev: at least one example.
        weights: tried in this order.
    Returns:
        The weight, and the table of weight and em.
    """
    spans: list[list[Span | None]] = [[] for _ in weights]
    with_weight = [reader.with_settings(replace(reader.settings, prior_weight=weight)) for weight in weights]
    for read in reader.each_logits([e.question for e in dev], [e.passages for e in dev]):  # once for all weights
        for one, found in zip(with_weight, spans, strict=True):
            found.append(one.best_span(read.start, read.end, read.pairs, read.passages) if read else None)
    table = [
        {"prior_weight": weight, "em": exact_share(found, dev)} for weight, found in zip(weights, spans, strict=True)
    ]
    chosen = max(table, key=lambda row: row["em"])
    return chosen["prior_weight"], table
