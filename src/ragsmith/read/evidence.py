"""What a reader tells RAG training about one batch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Evidence:
    """How well the right answers follow from the passages.

    Attributes:
        nll: the reader's own loss of each question, in nats, shape (questions,). It depends on the prior where the
            reader marginalises over passages.
        log_likelihood: log p(y | x, z) of the whole answer after each single passage, shape (questions, passages), 0
            where no passage is, and everywhere when it was not asked for and costs a pass of its own.
    """

    nll: "torch.Tensor"
    log_likelihood: "torch.Tensor"
