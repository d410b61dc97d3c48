"""The extractive reader: the best span over several passages, normalised over all of them."""

import copy
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ragsmith.compute.batching import length_batches, token_batches
from ragsmith.compute.device import Machine, probe
from ragsmith.compute.limits import COUNT, Limit, check_limits
from ragsmith.compute.memory import activation_budget, activation_bytes, freed_memory_kept, give_back_freed, halved
from ragsmith.compute.progress import progress
from ragsmith.compute.recompute import each_part
from ragsmith.read.reading import READER_FILE, Reading, ReadingPassage, ReadsPassages, Span
from ragsmith.read.span_logits import packed_spans, padded_logits, span_scores
from ragsmith.retrieve.encoder import quiet_transformers
from ragsmith.retrieve.models import ModelError, check_model_folder, read_weights
from ragsmith.retrieve.packed import position_limit

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

# Tokens in one forward pass. Padded ones are fewer: in short batches there is less padding.
MICRO_TOKENS, PADDED_TOKENS = 4096, 1024
READ_TOKENS = 16384  # tokens whose passages are sorted by length and read together
MANY = 64  # questions for which it pays to keep memory between batches
LIMITS = {
    "max_tokens": Limit(2, whole=True),
    "max_answer_tokens": COUNT,
    "prior_weight": Limit(),
    "candidates": COUNT,
}


@dataclass(frozen=True)
class ReaderSettings:
    """What the reader reads and how it scores.

    Attributes:
        max_tokens: of question and passage together; the end of a longer passage is not read.
        max_answer_tokens: longest span.
        prior_weight: how much one unit of the passage's retrieval score adds to the score of its spans.
        candidates: so many of the best spans are compared by their texts: the shares of equal ones, in any passage,
            add up, and the text with the most is the answer. 1 takes the best span.
    Raises:
        ValueError: a number out of its bounds; all faults in one message.
    """

    max_tokens: int = 192
    max_answer_tokens: int = 24
    prior_weight: float = 0.0
    candidates: int = 1

    def __post_init__(self) -> None:
        check_limits(self, LIMITS)


@dataclass(frozen=True)
class EncodedPair:
    """Question and passage as one sequence, with where its tokens stand in the passage.

    Attributes:
        input_ids, token_type_ids: one sequence.
        offsets: per token, its characters in the passage, or None outside of it.
    """

    input_ids: list[int]
    token_type_ids: list[int]
    offsets: list[tuple[int, int] | None]


class Logits(NamedTuple):
    """What the model says of the passages of one question; the arguments of `ExtractiveReader.best_span`."""

    start: "torch.Tensor"
    end: "torch.Tensor"
    pairs: Sequence[EncodedPair]
    passages: Sequence[ReadingPassage]


class ExtractiveReader(ReadsPassages):
    """A question-answering head over question and passage, read one passage at a time and compared across them.

    Start and end are normalised over all passages of a question (shared normalisation, Clark and Gardner, ACL 2018),
    so that scores of different passages can be compared; the retrieval score is added as a prior (as in REALM, Guu et
    al. 2020). The transformers in `ragsmith.retrieve.packed` are computed without padding; others are computed as
    transformers does, and the log says so.

    Args:
        model: a transformers model for question answering, with two logits per token.
        tokenizer: its fast tokenizer.
        settings: see `ReaderSettings`.
        machine: device and precision.
    Attributes:
        untrained: whether its head was drawn at random when it was loaded: it marks spans by chance.
    """

    untrained = False

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        settings: ReaderSettings,
        machine: Machine,
    ) -> None:
        self.model = model.to(machine.device)  # type: ignore[arg-type]
        self.tokenizer = tokenizer
        self.settings = settings
        self.machine = machine
        self.packed = packed_spans(self.model)
        if self.packed is None:
            logger.warning(
                "%s has no packed computation here: it is computed with padding, as transformers does.",
                type(self.model).__name__,
            )
        self.micro_tokens = PADDED_TOKENS if self.packed is None else MICRO_TOKENS
        # A backward pass that needs more keeps nothing, and computes each part again.
        self.activation_bytes = activation_budget(None, machine.device)

    @classmethod
    def load(
        cls, folder: Path, settings: ReaderSettings | None = None, machine: Machine | None = None
    ) -> "ExtractiveReader":
        """A saved reader; or, when the folder holds only an encoder, one with an untrained head.

        Args:
            folder: what `save` wrote, or a BERT-like encoder.
            settings: None takes the saved ones.
            machine: None probes.
        Raises:
            ModelError: no model, truncated or altered, one that lacks weights but those of a new head, that wants code
                of its own, or that reads less than `max_tokens`, or damaged settings.
        """
        import torch
        from transformers import AutoModelForQuestionAnswering, AutoTokenizer
        from transformers.utils import logging as transformers_logging

        check_model_folder(folder)
        quiet_transformers()
        saved = folder / READER_FILE
        if settings is None:
            try:
                values = json.loads(saved.read_text("utf-8")) if saved.is_file() else {}
                settings = ReaderSettings(**values)
            except (ValueError, TypeError, RecursionError) as error:
                raise ModelError(f"{saved} is damaged or of another version: {error}") from error
        verbosity = transformers_logging.get_verbosity()
        transformers_logging.set_verbosity_error()  # it would say that the head is new, which the trainer knows
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)  # the new head's weights
                model, missing = read_weights(AutoModelForQuestionAnswering, folder, attn_implementation="eager")
        finally:
            transformers_logging.set_verbosity(verbosity)
        lost = [name for name in missing if saved.is_file() or name.startswith(f"{model.base_model_prefix}.")]
        if lost:  # they were drawn at random
            raise ModelError(f"{folder} lacks {len(lost)} weights of its reader, such as {lost[0]}. Get it again.")
        places = position_limit(model.base_model)
        if places is not None and settings.max_tokens > places:
            raise ModelError(
                f"{folder} reads at most {places} tokens, and max_tokens is {settings.max_tokens}: lower it."
            )
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        reader = cls(model, tokenizer, settings, machine or probe())
        reader.untrained = bool(missing)
        return reader

    def with_settings(self, settings: ReaderSettings) -> "ExtractiveReader":
        """The same model with other settings; both share the weights."""
        other = copy.copy(self)
        other.settings = settings
        return other

    def save(self, folder: Path) -> None:
        """Write a transformers directory and the settings."""
        self.model.save_pretrained(str(folder), safe_serialization=True)
        self.tokenizer.save_pretrained(str(folder))
        (folder / READER_FILE).write_text(json.dumps(asdict(self.settings), indent=2), "utf-8")

    def encode(self, question: str, passage: str) -> EncodedPair:
        """Question and passage as one sequence of at most `max_tokens`; a long question gets half of it and is cut."""
        return self.encode_all([question], [passage])[0]

    def encode_all(self, questions: Sequence[str], passages: Sequence[str]) -> list[EncodedPair]:
        """`encode` of many pairs: each question with the passage of the same number."""
        if not questions:
            return []
        short = {question: self.shortened(question) for question in set(questions)}
        tokens: Any = self.tokenizer(
            [short[question] for question in questions],
            list(passages),
            truncation="only_second",
            max_length=self.settings.max_tokens,
            return_offsets_mapping=True,
            return_token_type_ids=True,
        )
        return [
            EncodedPair(
                ids,
                types,
                [
                    (start, end) if part == 1 else None
                    for part, (start, end) in zip(tokens.sequence_ids(number), offsets, strict=True)
                ],
            )
            for number, (ids, types, offsets) in enumerate(
                zip(tokens["input_ids"], tokens["token_type_ids"], tokens["offset_mapping"], strict=True)
            )
        ]

    def shortened(self, question: str) -> str:
        """The question, cut where it would take more than half of `max_tokens`: the passage is what is read."""
        limit = self.settings.max_tokens // 2
        if len(question.encode()) <= limit:  # no tokenizer makes more than one token of a byte
            return question
        tokens: Any = self.tokenizer(
            question, add_special_tokens=False, truncation=True, max_length=limit, return_offsets_mapping=True
        )
        return question[: max((end for _, end in tokens["offset_mapping"]), default=0)]

    def shrink(self) -> bool:
        """Keep nothing and read fewer tokens at once, for the same gradients; False when they are one passage's."""
        if self.activation_bytes > 0:
            self.activation_bytes = 0
        elif self.micro_tokens <= self.settings.max_tokens:
            return False
        self.micro_tokens = halved(self.micro_tokens, self.settings.max_tokens)
        return True

    def weights(self) -> Any:
        """The transformer's weights in the precision that is computed in; made once for many calls of `logits`."""
        return None if self.packed is None else self.packed.weights(self.machine)

    def logits(self, pairs: Sequence[EncodedPair], weights: Any = None) -> "tuple[torch.Tensor, torch.Tensor]":
        """Start and end logits, both float32 of shape (pairs, longest); -inf outside of the passages.

        Pairs of like length are computed together. In training, what the backward pass would need too much memory for
        is computed again there, one part at a time (see `each_part`).

        Args:
            pairs: at least one.
            weights: from `weights`; None makes them.
        """
        import torch

        lengths = [len(pair.input_ids) for pair in pairs]
        batches = (length_batches if self.packed is None else token_batches)(lengths, self.micro_tokens)
        weights = self.weights() if weights is None else weights
        recompute = activation_bytes(self.model.config, lengths, self.machine.precision) > self.activation_bytes
        arguments = [([pairs[place] for place in batch], weights) for batch in batches]
        parts = each_part(self.unpadded_logits, arguments, recompute)
        longest = max(lengths)
        order = [place for batch in batches for place in batch]
        tokens = [
            (place * longest + token, offset) for place in order for token, offset in enumerate(pairs[place].offsets)
        ]
        device = self.machine.device
        readable = torch.tensor(
            [number for number, (_, offset) in enumerate(tokens) if offset is not None], dtype=torch.long
        )
        places = torch.tensor([place for place, offset in tokens if offset is not None], dtype=torch.long)
        values = torch.cat(parts)  # (tokens of all pairs, 2)
        outside = values.new_full((len(pairs) * longest, 2), float("-inf"))
        both = outside.index_copy(0, places.to(device), values[readable.to(device)])
        start, end = both.view(len(pairs), longest, 2).unbind(-1)
        return start, end

    def unpadded_logits(self, pairs: Sequence[EncodedPair], weights: Any) -> "torch.Tensor":
        """Start and end of all tokens, one pair behind the other: float32, shape (tokens, 2)."""
        token_ids = [pair.input_ids for pair in pairs]
        typed = "token_type_ids" in self.tokenizer.model_input_names
        type_ids = [pair.token_type_ids for pair in pairs] if typed else None
        if self.packed is not None:
            return self.packed.logits(token_ids, type_ids, self.machine, weights)
        return padded_logits(self.model, token_ids, type_ids, self.machine, int(self.tokenizer.pad_token_id or 0))

    def read_all(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[ReadingPassage]],
        prefixes: Sequence[int] = (),
        label: str = "",
    ) -> "list[Reading]":
        """What each question's passages give, all of them and the first few of them; each passage is computed once.

        Args:
            questions, passages: one list of passages per question, in the order of retrieval.
            prefixes: numbers of passages to answer from as well, such as (1, 3, 5).
            label: names the progress bar; empty shows none.
        """
        readings = []
        for read in self.each_logits(questions, passages, label):
            if read is None:
                readings.append(Reading(None, dict.fromkeys(prefixes), (), ()))
            else:
                readings.append(self.reading(*read, prefixes))
        return readings

    def each_logits(
        self, questions: Sequence[str], passages: Sequence[Sequence[ReadingPassage]], label: str = ""
    ) -> "Iterator[Logits | None]":
        """Start and end logits of each question's passages, without gradient; None for a question without passages.

        Args:
            questions, passages, label: as of `read_all`.
        """
        import torch

        training = self.model.training
        self.model.eval()
        # Giving memory back takes longer than reading for one question does.
        many = len(questions) >= MANY
        block: list[tuple[Sequence[ReadingPassage], list[EncodedPair]]] = []
        held = 0
        try:
            with freed_memory_kept() if many else nullcontext(), progress(label, total=len(questions)) as advance:
                # Not around the yield: what is done with the logits is the caller's affair.
                with torch.inference_mode():
                    weights = self.weights()
                for number, (question, found) in enumerate(zip(questions, passages, strict=True), start=1):
                    texts = [passage.text for passage in found]
                    block.append((found, self.encode_all([question] * len(texts), texts)))
                    held += sum(len(pair.input_ids) for pair in block[-1][1])
                    if held < READ_TOKENS and number < len(questions):
                        continue
                    with torch.inference_mode():
                        read = self.block_logits(block, weights)
                    yield from read
                    advance(len(block))
                    block, held = [], 0
                    if many:
                        give_back_freed()
        finally:
            self.model.train(training)

    def block_logits(
        self, block: "Sequence[tuple[Sequence[ReadingPassage], list[EncodedPair]]]", weights: Any
    ) -> "list[Logits | None]":
        """Logits of several questions, whose passages are computed together: those of like length at once.

        Args:
            block: per question its passages, and these as read.
            weights: from `weights`.
        """
        together = [pair for _, pairs in block for pair in pairs]
        if not together:
            return [None] * len(block)
        start, end = self.logits(together, weights)
        read: list[Logits | None] = []
        first = 0
        for found, pairs in block:
            rows = slice(first, first + len(pairs))
            first += len(pairs)
            longest = max((len(pair.input_ids) for pair in pairs), default=0)
            read.append(Logits(start[rows, :longest], end[rows, :longest], pairs, found) if pairs else None)
        return read

    def reading(
        self,
        start: "torch.Tensor",
        end: "torch.Tensor",
        pairs: Sequence[EncodedPair],
        passages: Sequence[ReadingPassage],
        prefixes: Sequence[int] = (),
    ) -> "Reading":
        """What the passages of one question give; the arguments are those of `best_span`."""
        scores = self.span_scores(start, end, passages)
        of_passages = scores.flatten(1).logsumexp(1).softmax(0)
        prior = self.prior(passages, start).softmax(0)
        return Reading(
            self.best_of(scores, pairs, passages),
            {k: self.best_of(scores[:k], pairs, passages) for k in prefixes},
            tuple(prior.tolist()),
            # No span anywhere gives 0 / 0.
            tuple(of_passages.nan_to_num(0.0).tolist()),
        )

    def best_span(
        self,
        start: "torch.Tensor",
        end: "torch.Tensor",
        pairs: Sequence[EncodedPair],
        passages: Sequence[ReadingPassage],
    ) -> Span | None:
        """The span with the highest score over all passages of one question.

        Args:
            start, end: logits, shape (passages, tokens); -inf where no span may begin or end.
            pairs: the passages as read.
            passages: the passages, in the same order.
        """
        return self.best_of(self.span_scores(start, end, passages), pairs, passages)

    def passage_spans(self, read: Logits) -> list[tuple[Span | None, float]]:
        """The best span of each passage alone, and its score without the prior: the sum of two logits.

        The prior moves all spans of a passage alike: the best span over any of the passages, with any weight of the
        prior, follows from these.
        """
        plain = self.with_settings(replace(self.settings, prior_weight=0.0, candidates=1))
        scores = plain.span_scores(read.start, read.end, read.passages)
        rows = [slice(row, row + 1) for row in range(len(read.pairs))]
        spans = [plain.best_of(scores[row], read.pairs[row], read.passages[row]) for row in rows]
        return list(zip(spans, scores.flatten(1).amax(1).tolist(), strict=True))

    def prior(self, passages: Sequence[ReadingPassage], like: "torch.Tensor") -> "torch.Tensor":
        """What the retrieval score adds to the spans of each passage, shape (passages,), on the device of `like`."""
        import torch

        return torch.tensor([passage.score for passage in passages], device=like.device) * self.settings.prior_weight

    def span_scores(
        self, start: "torch.Tensor", end: "torch.Tensor", passages: Sequence[ReadingPassage]
    ) -> "torch.Tensor":
        """Scores of all spans: start + end + prior; -inf where none is.

        Returns:
            Shape (passages, first token, tokens from the first to the last).
        """
        return span_scores(start, end, self.settings.max_answer_tokens) + self.prior(passages, start)[:, None, None]

    def best_of(
        self, scores: "torch.Tensor", pairs: Sequence[EncodedPair], passages: Sequence[ReadingPassage]
    ) -> Span | None:
        """The answer by `span_scores` of the first passages; None where there is no span.

        Of several spans with its text it is the one with the highest score, and its share is that of all of them.
        """
        flat = scores.flatten()
        values, places = flat.topk(min(self.settings.candidates, len(flat)))
        shares = (values - flat.logsumexp(0)).exp().nan_to_num(0.0)  # no span anywhere gives 0 / 0
        tokens, longest = scores.shape[1:]
        best: dict[str, Span] = {}
        for share, place in zip(shares.tolist(), places.tolist(), strict=True):
            if not share:
                break
            row, first = place // (tokens * longest), place // longest % tokens
            begin, finish = pairs[row].offsets[first], pairs[row].offsets[first + place % longest]
            if begin is None or finish is None:
                continue
            text = passages[row].text[begin[0] : finish[1]]
            same = " ".join(text.casefold().split())
            span = best.get(same, Span(text, passages[row].passage_id, begin[0], finish[1], 0.0))
            best[same] = replace(span, score=span.score + share)
        return max(best.values(), key=lambda span: span.score, default=None)
