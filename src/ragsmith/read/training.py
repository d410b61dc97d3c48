"""Training the extractive reader on questions with retrieved passages."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ragsmith.read.extractive import EncodedPair, ExtractiveReader, ReadingPassage, Span
from ragsmith.store import hash_json

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ReadingExample:
    """A question with the passages that were retrieved for it.

    Attributes:
        question: its text.
        passages: best first; in training at least one holds the answer.
        answers: accepted answers.
        right: passages whose spans count as right in training, when they hold an answer.
    """

    question: str
    passages: tuple[ReadingPassage, ...]
    answers: tuple[str, ...]
    right: frozenset[str]


class ReaderTask:
    """The reader as the loop trains it.

    Args:
        reader: trained in place.
        examples: for training; those without a right span that can be read are passed over.
        dev: judged by exact match of the answer.
        batch_size: questions in a batch.
        seed: decides the order.
        base_hash: content hash of the model before training.
    """

    metric = "em"

    def __init__(
        self,
        reader: ExtractiveReader,
        examples: Sequence[ReadingExample],
        dev: Sequence[ReadingExample],
        batch_size: int,
        seed: int,
        base_hash: str,
    ) -> None:
        self.reader = reader
        self.module: torch.nn.Module = reader.model
        self.examples = [example for example in examples if example.passages]
        self.dev = list(dev)
        self.batch_size = batch_size
        self.seed = seed
        self.base_hash = base_hash
        self.batches_per_epoch = len(self.examples) // batch_size

    def identity(self) -> str:
        """Hash of all that decides the outcome."""
        sets = [
            [[e.question, [asdict(p) for p in e.passages], list(e.answers), sorted(e.right)] for e in examples]
            for examples in (self.examples, self.dev)
        ]
        return hash_json([self.base_hash, sets, self.batch_size, self.seed, asdict(self.reader.settings)])

    def loss(self, epoch: int, number: int) -> "tuple[torch.Tensor, dict[str, float]]":
        """Mean over questions of the negative log share of right starts and ends; figure: share of right starts."""
        import torch

        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.examples))
        chosen = [self.examples[place] for place in order[number * self.batch_size : (number + 1) * self.batch_size]]
        pairs = [
            self.reader.encode(example.question, passage.text) for example in chosen for passage in example.passages
        ]
        start, end = self.reader.logits(pairs)
        losses, right = [], 0
        first = 0
        for example in chosen:
            rows = slice(first, first + len(example.passages))
            first += len(example.passages)
            starts, ends = right_tokens(example, pairs[rows])
            if not starts:
                continue
            for logits, places in ((start[rows], starts), (end[rows], ends)):
                flat = logits.flatten()
                marked = torch.tensor(
                    [row * logits.shape[1] + token for row, token in dict.fromkeys(places)], device=flat.device
                )
                losses.append(flat.logsumexp(0) - flat[marked].logsumexp(0))
            best = int(start[rows].flatten().argmax())
            right += (best // start.shape[1], best % start.shape[1]) in starts
        if not losses:
            # A batch in which nothing can be read: no gradient, and not an error.
            return start[torch.isfinite(start)].sum() * 0, {"right_starts": 0.0}
        return torch.stack(losses).mean(), {"right_starts": right / len(chosen)}

    def evaluate(self) -> tuple[float, dict[str, float]]:
        """Exact match on dev, by the normalised comparison of `same_answer`; figure: the share that got an answer."""
        spans = self.reader.answer_all([e.question for e in self.dev], [e.passages for e in self.dev])
        return exact_share(spans, self.dev), {"answered": sum(span is not None for span in spans) / len(spans)}

    def shrink(self) -> bool:
        """Keep nothing and read fewer tokens at once, for the same gradients; False when they are one passage's."""
        if self.reader.activation_bytes > 0:
            self.reader.activation_bytes = 0
        elif self.reader.micro_tokens <= self.reader.settings.max_tokens:
            return False
        self.reader.micro_tokens = max(self.reader.settings.max_tokens, self.reader.micro_tokens // 2)
        return True


def right_tokens(
    example: ReadingExample, pairs: Sequence[EncodedPair]
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(passage, token) of each right start and of each right end, answers in their order in each right passage.

    Of the places of an answer it is the first at which whole tokens spell it (`os` is in `close`, but not as an
    answer), or else the first.
    """
    starts, ends = [], []
    for row, (passage, pair) in enumerate(zip(example.passages, pairs, strict=True)):
        if passage.passage_id not in example.right:
            continue
        for answer in example.answers:
            begin = answer_place(passage.text, answer, pair)
            finish = begin + len(answer)
            start = next((t for t, o in enumerate(pair.offsets) if o is not None and o[0] <= begin < o[1]), None)
            end = next((t for t, o in enumerate(pair.offsets) if o is not None and o[0] < finish <= o[1]), None)
            if start is not None and end is not None:
                starts.append((row, start))
                ends.append((row, end))
    return starts, ends


def answer_place(text: str, answer: str, pair: EncodedPair) -> int:
    """Where an answer begins in a passage, preferably where a token begins and one ends with it; -1: nowhere."""
    begins = {offset[0] for offset in pair.offsets if offset is not None}
    finishes = {offset[1] for offset in pair.offsets if offset is not None}
    first = place = text.find(answer) if answer else -1
    while place >= 0:
        if place in begins and place + len(answer) in finishes:
            return place
        place = text.find(answer, place + 1)
    return first


def same_answer(answer: str, accepted: Sequence[str]) -> bool:
    """Whether an answer equals one of the accepted, but for case and the white space around it."""
    return answer.strip().casefold() in {text.strip().casefold() for text in accepted}


def exact_share(spans: Sequence[Span | None], examples: Sequence[ReadingExample]) -> float:
    """Share of the examples whose span is an accepted answer."""
    right = sum(
        span is not None and same_answer(span.text, e.answers) for span, e in zip(spans, examples, strict=True)
    )
    return right / len(examples)


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
    variants = [reader.with_settings(replace(reader.settings, prior_weight=weight)) for weight in weights]
    spans: list[list[Span | None]] = [[] for _ in weights]
    # Read once: only the sum of logits and prior differs between the weights.
    for read in reader.each_logits([e.question for e in dev], [e.passages for e in dev]):
        for variant, found in zip(variants, spans, strict=True):
            found.append(variant.best_span(*read) if read else None)
    table = [
        {"prior_weight": weight, "em": exact_share(found, dev)} for weight, found in zip(weights, spans, strict=True)
    ]
    best = max(table, key=lambda row: row["em"])
    return best["prior_weight"], table
