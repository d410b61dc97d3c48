"""Vectors with a gradient, of any number of texts in bounded memory."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ragsmith.compute import memory
from ragsmith.compute.ranks import world
from ragsmith.compute.recompute import each_part
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.routes import Kind
from ragsmith.retrieve.tower import Tower

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)


class TrainingEncoder:
    """An encoder as training uses it: sorted, cut, in parts, and computed twice where memory asks for it.

    Sequences are sorted by length within the batch and computed in parts of `micro_tokens`, which changes no gradient.
    When what the backward pass needs would exceed `activation_bytes`, it is not kept but computed again, one part at a
    time: the gradient is the same, and a batch of any size needs the memory of one part (GradCache, Gao et al. 2021).

    Args:
        encoder: its model is trained in place.
        micro_tokens: tokens in one part.
        activation_bytes: see above.
        longest: tokens of the longest text that it is ever given; the least that a part can be.
    """

    def __init__(self, encoder: Encoder, micro_tokens: int, activation_bytes: int, longest: int) -> None:
        self.encoder = encoder
        self.longest = min(longest, encoder.max_tokens)
        self.micro_tokens = micro_tokens
        self.activation_bytes = activation_bytes

    def embed(
        self, token_ids: Sequence[Sequence[int]], kind: Kind, recompute: bool, weights: Any = None
    ) -> "torch.Tensor":
        """Unit vectors in the order of the sequences, with gradient.

        Args:
            token_ids: of the texts.
            kind: of the texts.
            recompute: whether each part is computed again in the backward pass.
            weights: from `Encoder.weights`. Those of a whole step are converted, and their gradients converted back,
                once for all its parts; None does it in each.
        Returns:
            float32, shape (len(token_ids), dimension).
        """
        import torch

        if not token_ids:
            return torch.zeros(0, self.encoder.dimension, device=self.encoder.machine.device)
        batches = self.encoder.batches(token_ids, kind, self.micro_tokens)
        arguments = [([token_ids[place] for place in batch], kind, weights) for batch in batches]
        vectors = torch.cat(each_part(self.encoder.forward, arguments, recompute))
        order = torch.tensor([place for batch in batches for place in batch], device=vectors.device)
        return vectors[torch.argsort(order)]

    def must_recompute(self, queries: Sequence[int], passages: Sequence[int] = ()) -> bool:
        """Whether queries and passages of these lengths need more than `activation_bytes` when everything is kept.

        Of several processes each computes its share of them, and all decide alike.
        """
        lengths: dict[Kind, Sequence[int]] = {"query": queries, "passage": passages}
        needed = sum(activation_bytes(self.encoder.transformer(kind), some) for kind, some in lengths.items())
        return needed / world() > self.activation_bytes

    def shrink(self) -> bool:
        """Keep nothing, in parts half as long; False when a part is one text already."""
        if self.activation_bytes > 0:
            self.activation_bytes = 0
        elif self.micro_tokens <= self.longest:
            return False
        self.micro_tokens = memory.halved(self.micro_tokens, self.longest)
        logger.warning(
            "out of memory: going on in parts of %d tokens that are computed twice; the gradients stay the same",
            self.micro_tokens,
        )
        return True


def activation_bytes(tower: Tower, lengths: Sequence[int]) -> int:
    """About what the backward pass of a tower needs for sequences of these lengths."""
    return memory.activation_bytes(tower.transformer.config, lengths, tower.machine.precision, tower.dimension)


def shortened(token_ids: list[int], limit: int) -> list[int]:
    """The ids cut to `limit`, the last (the model's end mark) kept."""
    return token_ids if len(token_ids) <= limit else [*token_ids[: limit - 1], token_ids[-1]]


def set_dropout(module: "torch.nn.Module", share: float | None) -> None:
    """Set every dropout layer of a model; None leaves each as it is."""
    import torch

    if share is None:
        return
    for layer in module.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = share
            continue
        for name, value in list(vars(layer).items()):
            # BART has numbers and no layers; T5 and ModernBERT have one for attention.
            if name.endswith("dropout") and isinstance(value, float):
                setattr(layer, name, share)
