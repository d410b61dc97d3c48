"""The extractive reader: the best span over several passages, normalised over all of them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragsmith.compute.batching import length_batches
from ragsmith.compute.device import Machine, probe
from ragsmith.compute.progress import progress
from ragsmith.retrieve.encoder import quiet_transformers
from ragsmith.retrieve.models import ModelError, check_model_folder

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

READER_FILE = "reader.json"
MICRO_TOKENS = 1024  # padded tokens in one forward pass


@dataclass(frozen=True)
class ReaderSettings:
    """What the reader reads and how it scores.

    Attributes:
        max_tokens: of question and passage together; the end of a longer passage is not read.
        max_answer_tokens: longest span.
        prior_weight: how much one unit of the passage's retrieval score adds to the score of its spans.
    """

    max_tokens: int = 192
    max_answer_tokens: int = 24
    prior_weight: float = 0.0


@dataclass(frozen=True)
class ReadingPassage:
    """A retrieved passage as the reader sees it: id, text and retrieval score."""

    passage_id: str
    text: str
    score: float


@dataclass(frozen=True)
class Span:
    """An answer.

    Attributes:
        text: exactly `passage.text[start:end]`, unless a reader wrote it that is not bound to the passage's words.
        passage_id: the passage that it was read in, or that supports it best.
        start, end: characters; both −1 where the passage does not hold the text.
        score: its share among all spans, or the probability of writing it; 0 to 1.
    """

    text: str
    passage_id: str
    start: int
    end: int
    score: float


@dataclass(frozen=True)
class Reading:
    """What a reader makes of the passages of one question.

    Attributes:
        answer: the best span over all passages; None when there is none.
        of_first: the best span over the first k passages alone, by k.
        prior: what retrieval says about each passage, as shares: the softmax of its weighted score.
        posterior: the share of each passage among the probability of all spans (REALM's p(z | x, y) over all y); 0
            everywhere when there is no span. Of a reader that writes: p(z | x, y) of the answer.
        posterior_of_first: that of the first k passages alone, by k, where it is not the first k of `posterior` over
            their sum: another answer, another posterior.
    """

    answer: Span | None
    of_first: dict[int, Span | None]
    prior: tuple[float, ...]
    posterior: tuple[float, ...]
    posterior_of_first: dict[int, tuple[float, ...]] = field(default_factory=dict)


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


class ExtractiveReader:
    """A question-answering head over question and passage, read one passage at a time and compared across them.

    Start and end are normalised over all passages of a question (shared normalisation, Clark and Gardner, ACL 2018),
    so that scores of different passages can be compared; the retrieval score is added as a prior (as in REALM, Guu et
    al. 2020).

    Args:
        model: a transformers model for question answering, with two logits per token.
        tokenizer: its fast tokenizer.
        settings: see `ReaderSettings`.
        machine: device and precision.
    """

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
        self.micro_tokens = MICRO_TOKENS

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
            ModelError: no model, truncated or altered, or one that reads less than `max_tokens`.
        """
        import torch
        from transformers import AutoModelForQuestionAnswering, AutoTokenizer
        from transformers.utils import logging as transformers_logging

        check_model_folder(folder)
        quiet_transformers()
        saved = folder / READER_FILE
        if settings is None:
            settings = ReaderSettings(**json.loads(saved.read_text("utf-8"))) if saved.is_file() else ReaderSettings()
        verbosity = transformers_logging.get_verbosity()
        transformers_logging.set_verbosity_error()  # it would say that the head is new, which the trainer knows
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)  # the new head's weights
                model = AutoModelForQuestionAnswering.from_pretrained(
                    str(folder),
                    use_safetensors=True,
                    dtype=torch.float32,
                    attn_implementation="eager",
                    local_files_only=True,
                )
        finally:
            transformers_logging.set_verbosity(verbosity)
        places = getattr(model.config, "max_position_embeddings", None)
        if places is not None and settings.max_tokens > places:
            raise ModelError(
                f"{folder} reads at most {places} tokens, and max_tokens is {settings.max_tokens}: lower it."
            )
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        return cls(model, tokenizer, settings, machine or probe())

    def save(self, folder: Path) -> None:
        """Write a transformers directory and the settings."""
        self.model.save_pretrained(str(folder), safe_serialization=True)
        self.tokenizer.save_pretrained(str(folder))
        (folder / READER_FILE).write_text(json.dumps(asdict(self.settings), indent=2), "utf-8")

    def encode(self, question: str, passage: str) -> EncodedPair:
        """Question and passage as one sequence of at most `max_tokens`; a long question gets half of it and is cut."""
        tokens: Any = self.tokenizer(
            self.shortened(question),
            passage,
            truncation="only_second",
            max_length=self.settings.max_tokens,
            return_offsets_mapping=True,
            return_token_type_ids=True,
        )
        of_passage = [part == 1 for part in tokens.sequence_ids()]
        offsets = [
            (int(start), int(end)) if inside else None
            for (start, end), inside in zip(tokens["offset_mapping"], of_passage, strict=True)
        ]
        return EncodedPair(list(tokens["input_ids"]), list(tokens["token_type_ids"]), offsets)

    def shortened(self, question: str) -> str:
        """The question, cut where it would take more than half of `max_tokens`: the passage is what is read."""
        limit = self.settings.max_tokens // 2
        if len(question.encode()) <= limit:  # no tokenizer makes more than one token of a byte
            return question
        tokens: Any = self.tokenizer(
            question, add_special_tokens=False, truncation=True, max_length=limit, return_offsets_mapping=True
        )
        return question[: max((end for _, end in tokens["offset_mapping"]), default=0)]

    def logits(self, pairs: Sequence[EncodedPair]) -> "tuple[torch.Tensor, torch.Tensor]":
        """Start and end logits, both float32 of shape (pairs, longest); -inf outside of the passages.

        Pairs of like length are computed together: half of a batch in the order of retrieval would be padding.
        """
        import torch
        from torch.utils.checkpoint import checkpoint

        longest = max(len(pair.input_ids) for pair in pairs)
        batches = length_batches([len(pair.input_ids) for pair in pairs], self.micro_tokens)
        order = torch.argsort(torch.tensor([place for batch in batches for place in batch]))
        # In training, computed again in the backward pass, one part at a time (as in `learn.embedding`).
        parts = [
            checkpoint(self.padded_logits, [pairs[place] for place in batch], use_reentrant=False) for batch in batches
        ]
        start, end = (
            torch.cat(
                [
                    torch.nn.functional.pad(part[which], (0, longest - part[which].shape[1]), value=float("-inf"))
                    for part in parts
                ]
            )[order.to(self.machine.device)]
            for which in (0, 1)
        )
        return start, end

    def padded_logits(self, pairs: Sequence[EncodedPair]) -> "tuple[torch.Tensor, torch.Tensor]":
        """`logits` of pairs that are padded to the longest of them."""
        import torch

        longest = max(len(pair.input_ids) for pair in pairs)
        shape = (len(pairs), longest)
        ids = torch.full(shape, int(self.tokenizer.pad_token_id or 0), dtype=torch.long)
        types, attention = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
        readable = torch.zeros(shape, dtype=torch.bool)
        for row, pair in enumerate(pairs):
            length = len(pair.input_ids)
            ids[row, :length] = torch.tensor(pair.input_ids)
            types[row, :length] = torch.tensor(pair.token_type_ids)
            attention[row, :length] = 1
            readable[row, :length] = torch.tensor([offset is not None for offset in pair.offsets])
        device = self.machine.device
        features = {"input_ids": ids.to(device), "attention_mask": attention.to(device)}
        if "token_type_ids" in self.tokenizer.model_input_names:
            features["token_type_ids"] = types.to(device)
        with self.machine.autocast():
            output = self.model(**features)
        outside = ~readable.to(device)
        return (
            output.start_logits.float().masked_fill(outside, float("-inf")),
            output.end_logits.float().masked_fill(outside, float("-inf")),
        )

    def answer(self, question: str, passages: Sequence[ReadingPassage]) -> Span | None:
        """The best span over the passages; None when there is no passage."""
        return self.answer_all([question], [passages])[0]

    def answer_all(
        self, questions: Sequence[str], passages: Sequence[Sequence[ReadingPassage]], label: str = ""
    ) -> list[Span | None]:
        """`answer` for each question with its own passages; `label` names the progress bar."""
        return [reading.answer for reading in self.read_all(questions, passages, (), label)]

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
        import torch

        self.model.eval()
        readings: list[Reading] = []
        with torch.inference_mode(), progress(label, total=len(questions)) as advance:
            for question, found in zip(questions, passages, strict=True):
                advance(1)
                if not found:
                    readings.append(Reading(None, dict.fromkeys(prefixes), (), ()))
                    continue
                pairs = [self.encode(question, passage.text) for passage in found]
                readings.append(self.reading(*self.logits(pairs), pairs, found, prefixes))
        return readings

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

    def prior(self, passages: Sequence[ReadingPassage], like: "torch.Tensor") -> "torch.Tensor":
        """What the retrieval score adds to the spans of each passage, shape (passages,), on the device of `like`."""
        import torch

        return torch.tensor([passage.score for passage in passages], device=like.device) * self.settings.prior_weight

    def span_scores(
        self, start: "torch.Tensor", end: "torch.Tensor", passages: Sequence[ReadingPassage]
    ) -> "torch.Tensor":
        """Scores of all spans, shape (passages, first token, last token): start + end + prior; -inf where none is."""
        import torch

        # An end does not stand before its start, nor too far behind it.
        scores = start[:, :, None] + end[:, None, :] + self.prior(passages, start)[:, None, None]
        tokens = start.shape[1]
        allowed = torch.ones(tokens, tokens, dtype=torch.bool, device=start.device).triu()
        allowed = allowed & ~torch.ones_like(allowed).triu(self.settings.max_answer_tokens)
        return scores.masked_fill(~allowed, float("-inf"))

    @staticmethod
    def best_of(
        scores: "torch.Tensor", pairs: Sequence[EncodedPair], passages: Sequence[ReadingPassage]
    ) -> Span | None:
        """The best span by `span_scores` of the first passages; None where there is no span."""
        import torch

        tokens = scores.shape[1]
        best = int(scores.argmax())
        value = scores.flatten()[best]
        if not torch.isfinite(value):
            return None
        row, first, last = best // tokens**2, best // tokens % tokens, best % tokens
        begin, finish = pairs[row].offsets[first], pairs[row].offsets[last]
        if begin is None or finish is None:
            return None
        share = float(torch.exp(value - scores.flatten().logsumexp(0)))
        text = passages[row].text[begin[0] : finish[1]]
        return Span(text, passages[row].passage_id, begin[0], finish[1], share)
