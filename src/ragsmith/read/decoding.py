"""How an answer is found in what a language model finds probable, over several passages at once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# Settings of a model's generation_config of which `generate` makes logits processors.
PROCESSED = (
    "repetition_penalty",
    "no_repeat_ngram_size",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "suppress_tokens",
    "begin_suppress_tokens",
)


@dataclass(frozen=True)
class Decoding:
    """How an answer is decoded.

    Attributes:
        num_beams: 1 is greedy.
        do_sample: draw each token instead of taking the most probable; with one beam.
        temperature, top_k, top_p: of sampling; 0 and 1 cut nothing.
        seed: of sampling: the same answer for the same batch.
        thorough: in `rag_sequence`, whether each candidate is scored after every passage, or after those that gave it
            (Lewis et al. 2020, sec. 2.5).
    Raises:
        ValueError: a value out of its bounds, or sampling with several beams; all faults in one message.
    """

    num_beams: int = 1
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    thorough: bool = True

    def __post_init__(self) -> None:
        faults = {
            f"num_beams is {self.num_beams}; it must be 1 or more": self.num_beams < 1,
            f"temperature is {self.temperature}; it must be above 0": not 0 < self.temperature < float("inf"),
            f"top_k is {self.top_k}; it must be 0 or more": self.top_k < 0,
            f"top_p is {self.top_p}; it must be above 0 and at most 1": not 0 < self.top_p <= 1,
            "do_sample is set with several beams: set num_beams to 1": self.do_sample and self.num_beams > 1,
        }
        if found := [fault for fault, holds in faults.items() if holds]:
            raise ValueError(f"decoding: {'; '.join(found)}.")


class MarginalLogits:
    """A logits processor that turns `generate` into RAG-Token: p(y_t) = Σ_z p(z | x) p(y_t | x, z, y_<t).

    The batch holds each question once for each of its passages. All copies get the mixture's distribution, and so go
    on with the same token: greedy decoding and each beam stay in step.

    It mixes what the model says. `generate` would put it behind the processors that it makes itself, and passages that
    are masked or penalised one by one weigh otherwise in the mixture: have it make none (`PROCESSED`), and put
    `own_processors` behind this one, as transformers' RagTokenForGeneration has them.

    Args:
        prior: log p(z | x), shape (questions, passages); minus infinity where a copy stands for no passage.
    """

    def __init__(self, prior: "torch.Tensor") -> None:
        self.prior = prior

    def __call__(self, input_ids: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
        """Scores of shape (questions × passages × beams, vocabulary) to log probabilities of the mixture."""
        questions, passages = self.prior.shape
        beams = len(scores) // (questions * passages)
        each = scores.float().log_softmax(dim=-1).view(questions, passages, beams, -1)
        mixed = (each + self.prior[:, :, None, None]).logsumexp(dim=1, keepdim=True)
        return mixed.expand_as(each).reshape(len(scores), -1)


def own_processors(generation: Any, max_length: int, device: Any) -> list[Any]:
    """The processors that `generate` of transformers makes of `PROCESSED`, in its order.

    Args:
        generation: an encoder-decoder's generation_config.
        max_length: tokens of an answer and its start token.
        device: of the scores.
    """
    from transformers import (
        ForcedBOSTokenLogitsProcessor,
        ForcedEOSTokenLogitsProcessor,
        NoRepeatNGramLogitsProcessor,
        RepetitionPenaltyLogitsProcessor,
        SuppressTokensAtBeginLogitsProcessor,
        SuppressTokensLogitsProcessor,
    )

    found: list[Any] = []
    if generation.repetition_penalty not in (None, 1.0):
        found.append(RepetitionPenaltyLogitsProcessor(generation.repetition_penalty))
    if (generation.no_repeat_ngram_size or 0) > 0:
        found.append(NoRepeatNGramLogitsProcessor(generation.no_repeat_ngram_size))
    forced = generation.forced_bos_token_id
    if forced is not None:
        found.append(ForcedBOSTokenLogitsProcessor(forced))
    if generation.forced_eos_token_id is not None:
        found.append(ForcedEOSTokenLogitsProcessor(max_length, generation.forced_eos_token_id, device))
    if generation.suppress_tokens is not None:
        found.append(SuppressTokensLogitsProcessor(generation.suppress_tokens, device))
    if generation.begin_suppress_tokens is not None:
        # An answer begins behind its start token, and behind what is forced.
        begin = 1 if forced is None else 2
        found.append(SuppressTokensAtBeginLogitsProcessor(generation.begin_suppress_tokens, begin, device))
    return found


class SharedGumbel:
    """A logits processor that makes greedy decoding draw, with one draw for all copies of a question.

    The largest of log p + Gumbel noise is a draw from p (Gumbel 1954). `generate` itself would draw for each copy
    alone, and they would part.

    Args:
        decoding: temperature, top_k, top_p and seed.
        copies: rows of the batch that belong to one question.
    """

    def __init__(self, decoding: Decoding, copies: int) -> None:
        import torch
        from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

        self.copies = copies
        self.generator = torch.Generator().manual_seed(decoding.seed)
        self.warpers = LogitsProcessorList()
        if decoding.temperature != 1:
            self.warpers.append(TemperatureLogitsWarper(decoding.temperature))
        if decoding.top_k:
            self.warpers.append(TopKLogitsWarper(decoding.top_k))
        if decoding.top_p < 1:
            self.warpers.append(TopPLogitsWarper(decoding.top_p))

    def __call__(self, input_ids: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
        """Scores of shape (questions × copies, vocabulary), with noise that is the same for all copies."""
        import torch

        ids: Any = input_ids
        kept: torch.Tensor = self.warpers(ids, scores.float().log_softmax(dim=-1))
        uniform = torch.rand(len(scores) // self.copies, scores.shape[1], generator=self.generator)
        # Neither 0 nor 1, whose logarithms of logarithms are infinite.
        noise = -(-uniform.clamp(1e-20, 1 - 1e-7).log()).log()
        return kept + noise.to(scores.device).repeat_interleave(self.copies, dim=0)


def stream_first_row(spell: Callable[[Sequence[int]], str], generate: Callable[[Any], Any]) -> Iterator[str]:
    """The text of the first row of a batch, piece by piece, while `generate(streamer)` runs in a thread of its own.

    The pieces together are what `spell` makes of all ids. (The streamers of transformers refuse more than one row, and
    lose a space after each line.) Whoever stops listening stops the thread at its next token.

    Args:
        spell: text of the ids so far.
        generate: calls `generate` of transformers with the streamer.
    Raises:
        Exception: what `generate` raised, after what came before it.
    """
    from queue import SimpleQueue
    from threading import Event, Thread

    import torch
    from transformers.generation.streamers import BaseStreamer

    pieces: SimpleQueue[str | None] = SimpleQueue()
    left = Event()
    failed: list[BaseException] = []

    class Left(Exception):
        """Nobody listens any more."""

    class FirstRow(BaseStreamer):
        """Puts text into the queue as far as no later token changes it."""

        def __init__(self) -> None:
            self.ids: list[int] | None = None
            self.sent = ""

        def put(self, value: Any) -> None:
            if left.is_set():
                raise Left
            if self.ids is None:  # the prompt, or the token that starts the decoder
                self.ids = []
                return
            self.ids += value[:1].flatten().tolist()
            text = spell(self.ids)
            # A later token may complete the last word, and a character of several bytes with it.
            self.send(text[: text.rfind(" ") + 1])

        def end(self) -> None:
            self.send(spell(self.ids or []))

        def send(self, text: str) -> None:
            if len(text) > len(self.sent):
                pieces.put(text[len(self.sent) :])
                self.sent = text

    def work() -> None:
        try:
            with torch.inference_mode():
                generate(FirstRow())
        except Left:
            pass
        except BaseException as error:
            failed.append(error)
        finally:
            pieces.put(None)

    thread = Thread(target=work, name="generate", daemon=True)
    thread.start()
    try:
        while (piece := pieces.get()) is not None:
            yield piece
    finally:
        left.set()
        thread.join()
    if failed:
        raise failed[0]
