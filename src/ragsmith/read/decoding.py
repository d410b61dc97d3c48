"""How an answer is found in what a language model finds probable, over several passages at once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


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
    """

    num_beams: int = 1
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    thorough: bool = True


class MarginalLogits:
    """A logits processor that turns `generate` into RAG-Token: p(y_t) = Σ_z p(z | x) p(y_t | x, z, y_<t).

    The batch holds each question once for each of its passages. All copies get the mixture's distribution, and so go
    on with the same token: greedy decoding and each beam stay in step.

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


def stream_first_row(tokenizer: Any, generate: Callable[[Any], Any]) -> Iterator[str]:
    """The text of the first row of a batch, piece by piece, while `generate(streamer)` runs in a thread of its own.

    Raises:
        Exception: what `generate` raised, after what came before it.
    """
    from threading import Thread

    import torch
    from transformers import TextIteratorStreamer

    class FirstRow(TextIteratorStreamer):
        """The streamers of transformers refuse more than one row; all copies of a question say the same."""

        def put(self, value: Any) -> None:
            super().put(value[:1])  # type: ignore[no-untyped-call]

    streamer = FirstRow(tokenizer, skip_prompt=True, skip_special_tokens=True)
    failed: list[BaseException] = []

    def work() -> None:
        try:
            with torch.inference_mode():
                generate(streamer)
        except BaseException as error:
            failed.append(error)
            streamer.on_finalized_text("", stream_end=True)

    thread = Thread(target=work, name="generate", daemon=True)
    thread.start()
    yield from (piece for piece in streamer if piece)
    thread.join()
    if failed:
        raise failed[0]
