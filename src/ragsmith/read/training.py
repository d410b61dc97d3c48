"""Training the extractive reader on questions with retrieved passages."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from ragsmith.learn.loop import PlainTask
from ragsmith.read.extractive import EncodedPair, ExtractiveReader
from ragsmith.read.reading import ReadingPassage, Span
from ragsmith.store import hash_json

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ReadingExample:
    """A question with the passages that were retrieved for it.

    Attributes:
        question: its text.
        passages: best first; in training at least one is right.
        answers: accepted answers.
        right: passages whose spans count as right in training, when they hold an answer.
        marks: where answers were marked by hand: passage_id, and first character and the one after the last in the
            text that the reader sees. In a right passage without marks the accepted answers are looked for.
    """

    question: str
    passages: tuple[ReadingPassage, ...]
    answers: tuple[str, ...]
    right: frozenset[str]
    marks: tuple[tuple[str, int, int], ...] = ()


class ReaderTask(PlainTask):
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
            [
                [e.question, [asdict(p) for p in e.passages], list(e.answers), sorted(e.right), e.marks]
                for e in examples
            ]
            for examples in (self.examples, self.dev)
        ]
        return hash_json([self.base_hash, sets, self.batch_size, self.seed, asdict(self.reader.settings)])

    def loss(self, epoch: int, number: int) -> "tuple[torch.Tensor, dict[str, float]]":
        """Mean over questions of half the negative log share of right spans; figure: share of right starts.

        The share of a span is that of its start among all starts times that of its end among all ends, and right spans
        add up: a question has several accepted answers, and a start of one with the end of another is none of them
        (Clark and Gardner, ACL 2018, equation 1; Cheng et al., ACL 2020, on the span's own probability).
        """
        import torch

        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.examples))
        chosen = [self.examples[place] for place in order[number * self.batch_size : (number + 1) * self.batch_size]]
        shown = [(example.question, passage.text) for example in chosen for passage in example.passages]
        pairs = self.reader.encode_all([question for question, _ in shown], [text for _, text in shown])
        start, end = self.reader.logits(pairs)
        losses, right = [], 0
        first = 0
        for example in chosen:
            rows = slice(first, first + len(example.passages))
            first += len(example.passages)
            starts, ends = right_tokens(example, pairs[rows])
            if not starts:
                continue
            first_tokens, last_tokens = start[rows].flatten(), end[rows].flatten()
            marked = torch.tensor(
                [
                    (row * start.shape[1] + first_token, row * start.shape[1] + last_token)
                    for (row, first_token), (_, last_token) in dict.fromkeys(zip(starts, ends, strict=True))
                ],
                device=start.device,
            )  # (right spans, 2)
            right_spans = first_tokens[marked[:, 0]] + last_tokens[marked[:, 1]]
            losses.append((first_tokens.logsumexp(0) + last_tokens.logsumexp(0) - right_spans.logsumexp(0)) / 2)
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
        return self.reader.shrink()


def right_tokens(
    example: ReadingExample, pairs: Sequence[EncodedPair]
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(passage, token) of each right start and of each right end, answers in their order in each right passage.

    Where a passage has no marks, an answer stands at the first place at which whole tokens spell it (`os` is in
    `close`, but not as an answer), or else at the first.
    """
    starts, ends = [], []
    for row, (passage, pair) in enumerate(zip(example.passages, pairs, strict=True)):
        if passage.passage_id not in example.right:
            continue
        marked = [(begin, finish) for identity, begin, finish in example.marks if identity == passage.passage_id]
        if not marked:
            places = [(answer_place(passage.text, answer, pair), len(answer)) for answer in example.answers]
            marked = [(begin, begin + length) for begin, length in places]
        for begin, finish in marked:
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
    import torch

    spans: list[list[Span | None]] = [[] for _ in weights]
    # Read once: the prior decides between passages, and not between the spans of one.
    for read in reader.each_logits([e.question for e in dev], [e.passages for e in dev]):
        best = reader.passage_spans(read) if read else []
        scores = torch.tensor([score for _, score in best], dtype=torch.float64)
        prior = torch.tensor([passage.score for passage in read.passages] if read else [], dtype=torch.float64)
        for weight, found in zip(weights, spans, strict=True):
            found.append(best[int((scores + weight * prior).argmax())][0] if best else None)
    table = [
        {"prior_weight": weight, "em": exact_share(found, dev)} for weight, found in zip(weights, spans, strict=True)
    ]
    chosen = max(table, key=lambda row: row["em"])
    return chosen["prior_weight"], table
