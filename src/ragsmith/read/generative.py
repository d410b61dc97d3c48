"""Readers that write their answer: what all of them share."""

import json
import re
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from ragsmith.compute.device import Machine
from ragsmith.compute.memory import halved
from ragsmith.compute.progress import progress
from ragsmith.read.decoding import Decoding
from ragsmith.read.evidence import Evidence
from ragsmith.read.objectives import log_prior
from ragsmith.read.reading import READER_FILE, Reading, ReadingPassage, ReadsPassages, Span
from ragsmith.retrieve.models import ModelError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

GenerativeKind = Literal["rag_token", "rag_sequence", "fid", "causal"]
GENERATIVE_KINDS: tuple[GenerativeKind, ...] = get_args(GenerativeKind)
PASSAGE, QUESTION = "{passage}", "{question}"
# What a model's own generation_config may say: which tokens are special, and what its authors found to read well.
# Lengths, beams and sampling are the reader's settings; anything else could change the shape of what comes back.
# What `generate` makes a logits processor of is named in `decoding.PROCESSED` too.
KEPT = (
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "suppress_tokens",
    "begin_suppress_tokens",
    "no_repeat_ngram_size",
    "repetition_penalty",
    "length_penalty",
    "early_stopping",
)
MICRO_TOKENS = 4096  # padded tokens of questions and passages in one forward pass


@dataclass(frozen=True)
class GenerativeSettings:
    """What a generative reader reads and how it answers.

    Attributes:
        kind: how the passages come together. `rag_token` mixes them at each token, `rag_sequence` for the whole answer
            (Lewis et al. 2020); `fid` lets the decoder see all at once (Izacard and Grave 2021); `causal` puts them
            into one prompt of a decoder-only model.
        max_tokens: of question and passage together (`causal`: of the whole prompt). Passages are cut, the question
            never more than to half.
        max_answer_tokens: longest answer.
        prior_weight: how much one unit of a passage's retrieval score adds to its log prior.
        template: how question and passage become one text.
        decoding: how the answer is found.
    Raises:
        ValueError: an unknown kind, or a number out of its bounds.
    """

    kind: GenerativeKind = "rag_token"
    max_tokens: int = 256
    max_answer_tokens: int = 32
    prior_weight: float = 20.0
    template: str = f"question: {QUESTION} context: {PASSAGE}"
    decoding: Decoding = field(default_factory=Decoding)

    def __post_init__(self) -> None:
        if self.kind not in GENERATIVE_KINDS:
            raise ValueError(
                f"No generative reader is called {self.kind!r}. There are: {', '.join(GENERATIVE_KINDS)}."
            )
        if self.max_tokens < 2 or self.max_answer_tokens < 1:
            raise ValueError(
                f"max_tokens is {self.max_tokens} and max_answer_tokens {self.max_answer_tokens}; they must be at "
                "least 2 and 1."
            )


def load_settings(folder: Path) -> GenerativeSettings:
    """The settings that `GenerativeReader.save` wrote.

    Raises:
        ModelError: there are none, or they are damaged; the message says what is wrong.
    """
    path = folder / READER_FILE
    try:
        values = json.loads(path.read_text("utf-8"))
        for given, defaults in ((values, GenerativeSettings()), (values["decoding"], Decoding())):
            for name, value in given.items():
                wanted = type(getattr(defaults, name, value))
                if not isinstance(value, (int, float) if wanted is float else dict if wanted is Decoding else wanted):
                    raise TypeError(f"{name} is {value!r}")
        return GenerativeSettings(**(values | {"decoding": Decoding(**values["decoding"])}))
    except FileNotFoundError as error:
        raise ModelError(f"{folder} holds no reader: {READER_FILE} is not there.") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path} is damaged or of another version: {error}") from error


def own_generation(config: Any) -> Any:
    """A model's generation_config, with what is in `KEPT` alone."""
    from transformers import GenerationConfig

    said = {name: getattr(config, name, None) for name in KEPT}
    return GenerationConfig(**{name: value for name, value in said.items() if value is not None})


class GenerativeReader(ReadsPassages):
    """What all generative readers share: targets, posteriors, reading many questions, saving.

    Args:
        model: with a language-modelling head.
        tokenizer: its fast tokenizer.
        settings: see `GenerativeSettings`.
        machine: device and precision.
    Raises:
        ModelError: the template lacks a place or leaves no room in `max_tokens`, or nothing ends an answer.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        settings: GenerativeSettings,
        machine: Machine,
    ) -> None:
        for place in (PASSAGE, QUESTION):
            if settings.template.count(place) != 1:
                raise ModelError(f"The reader's template is {settings.template!r}; it must hold {place} once.")
        self.model = model.to(machine.device)  # type: ignore[arg-type]
        self.tokenizer = tokenizer
        self.settings = settings
        self.machine = machine
        self.micro_tokens = MICRO_TOKENS
        model.generation_config = own_generation(model.generation_config)
        ends = getattr(model.generation_config, "eos_token_id", None)
        self.ends = [int(end) for end in (ends if isinstance(ends, list) else [ends]) if end is not None]
        if not self.ends:
            raise ModelError("The reader's generation_config has no eos_token_id: it would never end an answer.")
        pad = tokenizer.pad_token_id
        self.pad = int(self.ends[0] if pad is None else pad)
        special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        # Longest first: of two that begin alike, the tokenizer takes the longer one.
        longest_first = sorted((token for token in special if len(token) > 1), key=len, reverse=True)
        self.special = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        frame = self.frame_length()
        if frame > settings.max_tokens // 2:
            raise ModelError(
                f"The reader's template alone takes {frame} tokens, more than half of max_tokens "
                f"({settings.max_tokens}): set max_tokens to {4 * frame} or more, or shorten the template."
            )

    def save(self, folder: Path) -> None:
        """Write a transformers directory and the settings."""
        self.model.save_pretrained(str(folder), safe_serialization=True)
        self.tokenizer.save_pretrained(str(folder))
        (folder / READER_FILE).write_text(json.dumps(asdict(self.settings), indent=2), "utf-8")

    # --- reading ---

    def read_all(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[ReadingPassage]],
        prefixes: Sequence[int] = (),
        label: str = "",
    ) -> list[Reading]:
        """What each question's passages give.

        The answer's `passage_id` is that of the highest posterior p(z | x, y); `start` and `end` are its first place
        in that passage, or −1 where the passage does not hold it. `score` is p(y | x), the probability of the answer.

        Args:
            questions: texts.
            passages: of each question, best first.
            prefixes: answers from so many first passages alone are given too.
            label: name of the progress bar; empty shows none.
        """
        import torch

        readings = [Reading(None, dict.fromkeys(prefixes), (), ()) for _ in questions]
        asked = [place for place, found in enumerate(passages) if found]
        self.model.eval()
        with torch.inference_mode(), progress(label, len(questions)) as advance:
            advance(len(questions) - len(asked))
            for batch in self._together([questions[place] for place in asked], [passages[place] for place in asked]):
                places = [asked[number] for number in batch]
                texts, found = [questions[place] for place in places], [passages[place] for place in places]
                whole = self._read(texts, found)
                most = max(len(some) for some in found)
                of_first = {
                    k: whole if k >= most else self._read(texts, [some[:k] for some in found]) for k in prefixes
                }
                for number, place in enumerate(places):
                    firsts = {k: read[number].answer for k, read in of_first.items()}
                    posteriors = {k: read[number].posterior for k, read in of_first.items()}
                    one = whole[number]
                    readings[place] = Reading(one.answer, firsts, one.prior, one.posterior, posteriors)
                advance(len(batch))
        return readings

    def _read(self, questions: Sequence[str], passages: Sequence[Sequence[ReadingPassage]]) -> list[Reading]:
        """A batch of questions, each with one passage or more."""
        scores, present = self.scores(passages)
        prior = log_prior(scores, present)
        written = self.generate_ids(questions, passages, prior)
        evidence = self.judged(questions, passages, written, prior, present)
        posterior = (prior + evidence.log_likelihood).log_softmax(dim=1).exp()
        readings = []
        for row, found in enumerate(passages):
            text = self.text(written[row])
            best = found[int(posterior[row].argmax())]
            start = best.text.find(text) if text else -1
            end = start + len(text) if start >= 0 else -1
            span = Span(text, best.passage_id, start, end, float((-evidence.nll[row]).exp()))
            shares = [tuple(values[row, : len(found)].tolist()) for values in (prior.exp(), posterior)]
            readings.append(Reading(span, {}, shares[0], shares[1]))
        return readings

    @abstractmethod
    def stream(self, question: str, passages: Sequence[ReadingPassage]) -> Iterator[str]:
        """The answer's text piece by piece, as it is generated (greedy or sampled).

        Raises:
            ValueError: with several beams, or in `rag_sequence`: the answer is only known at the end.
        """

    def scores(self, passages: Sequence[Sequence[ReadingPassage]]) -> "tuple[torch.Tensor, torch.Tensor]":
        """Weighted retrieval scores, float32, and where there is a passage, bool; both (questions, most passages)."""
        import torch

        width = max(len(found) for found in passages)
        scores, present = torch.zeros(len(passages), width), torch.zeros(len(passages), width, dtype=torch.bool)
        for row, found in enumerate(passages):
            scores[row, : len(found)] = torch.tensor([passage.score for passage in found])
            present[row, : len(found)] = True
        return (scores * self.settings.prior_weight).to(self.machine.device), present.to(self.machine.device)

    # --- what kinds differ in ---

    @abstractmethod
    def generate_ids(
        self, questions: Sequence[str], passages: Sequence[Sequence[ReadingPassage]], prior: "torch.Tensor"
    ) -> list[list[int]]:
        """Token ids of each answer, as `targets` gives them: without the start token, with the end mark if it came."""

    @abstractmethod
    def evidence(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[ReadingPassage]],
        targets: Sequence[Sequence[int]],
        prior: "torch.Tensor",
        present: "torch.Tensor",
        likelihood: bool,
        smoothing: float = 0.0,
    ) -> Evidence:
        """How well the answers follow from the passages, with gradient; see `Evidence`.

        Args:
            questions, passages: each question with one passage or more.
            targets: token ids of the answers, from `targets`.
            prior, present: from `log_prior`, and where there is a passage.
            likelihood: whether the likelihood after each single passage is wanted.
            smoothing: share of the label spread over the vocabulary.
        """

    def judged(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[ReadingPassage]],
        written: Sequence[Sequence[int]],
        prior: "torch.Tensor",
        present: "torch.Tensor",
    ) -> Evidence:
        """`evidence` of answers from `generate_ids`: what decoding forces is certain, and not the model's doing."""
        return self.evidence(questions, passages, written, prior, present, likelihood=True)

    def _together(self, questions: Sequence[str], passages: Sequence[Sequence[ReadingPassage]]) -> Iterator[list[int]]:
        """Questions that are read together: as many as `micro_tokens` allows, if all their passages are long."""
        most = max((len(found) for found in passages), default=1)
        size = max(1, self.micro_tokens // (most * self.settings.max_tokens))
        for begin in range(0, len(questions), size):
            yield list(range(begin, min(begin + size, len(questions))))

    # --- texts and tokens ---

    @abstractmethod
    def frame_length(self) -> int:
        """Tokens of the template without question and passage."""

    def plain(self, text: str) -> str:
        """The text with its special tokens broken by a space: what a person or a document wrote marks nothing."""
        return self.special.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)

    def targets(self, answers: Sequence[str]) -> list[list[int]]:
        """Token ids of answers as they are to be generated: cut to `max_answer_tokens`, ended, without start token."""
        limit = self.settings.max_answer_tokens
        return [[*self._answer_ids(self.plain(answer))[: limit - 1], self.ends[0]] for answer in answers]

    @abstractmethod
    def _answer_ids(self, answer: str) -> list[int]:
        """Token ids of an answer, without marks of beginning and end."""

    def text(self, ids: Sequence[int]) -> str:
        """The answer that these ids spell."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    def ended(self, ids: Sequence[int]) -> list[int]:
        """Generated ids without what stands after the end mark."""
        place = next((number for number, token in enumerate(ids) if token in self.ends), None)
        return list(ids if place is None else ids[: place + 1])

    def shortened(self, text: str, limit: int) -> str:
        """The text, cut after so many tokens."""
        if limit <= 0:
            return ""
        tokens: Any = self.tokenizer(
            text, add_special_tokens=False, truncation=True, max_length=limit, return_offsets_mapping=True
        )
        return text[: max((end for _, end in tokens["offset_mapping"]), default=0)]

    def length(self, text: str) -> int:
        """Tokens of a text."""
        ids: Any = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return len(ids)

    def shrink(self) -> bool:
        """Compute fewer tokens at once, for the same gradients; False when that is one pair already."""
        if self.micro_tokens <= self.settings.max_tokens:
            return False
        self.micro_tokens = halved(self.micro_tokens, self.settings.max_tokens)
        return True
