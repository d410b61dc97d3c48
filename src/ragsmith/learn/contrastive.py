"""Contrastive training of a bi-encoder with in-batch and mined negatives."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ragsmith.learn.losses import info_nce
from ragsmith.learn.ranking import ndcg
from ragsmith.learn.training_data import BatchBuilder
from ragsmith.retrieve.encoder import Encoder, Kind
from ragsmith.retrieve.index import DenseIndex
from ragsmith.store import hash_json

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ContrastiveSettings:
    """How a batch becomes a loss.

    Attributes:
        temperature: of InfoNCE.
        max_query_tokens, max_passage_tokens: longer texts are cut.
        dropout: share of activations dropped; the model's own value costs a third of the time on a processor.
        micro_tokens: padded tokens in one forward pass; a batch is sorted by length and split, the loss is the same.
    """

    temperature: float = 0.05
    max_query_tokens: int = 64
    max_passage_tokens: int = 128
    dropout: float = 0.0
    micro_tokens: int = 2048


@dataclass(frozen=True)
class DevSet:
    """Questions by which training is steered.

    Attributes:
        texts: the questions.
        relevant: the right passage ids of each.
        passage_ids, passages: the pool that they are searched in: ids and texts.
    """

    texts: list[str]
    relevant: list[set[str]]
    passage_ids: list[str]
    passages: list[str]


class ContrastiveTask:
    """The retriever as the loop trains it.

    Args:
        encoder: its model is trained in place.
        builder: gives the batches.
        dev: gives the score.
        settings: see `ContrastiveSettings`.
        base_hash: content hash of the model before training.
    """

    metric = "ndcg@10"

    def __init__(
        self, encoder: Encoder, builder: BatchBuilder, dev: DevSet, settings: ContrastiveSettings, base_hash: str
    ) -> None:
        self.encoder = encoder
        self.module: torch.nn.Module = encoder.model
        self.builder = builder
        self.dev = dev
        self.settings = settings
        self.base_hash = base_hash
        self.batches_per_epoch = len(builder)
        set_dropout(self.module, settings.dropout)

    def identity(self) -> str:
        """Hash of all that decides the outcome."""
        data = [
            [example.query_id, example.text, list(example.positive_ids), list(example.negative_ids)]
            for example in self.builder.examples
        ]
        builder = [self.builder.batch_size, self.builder.negatives, self.builder.cut_probability, self.builder.seed]
        texts = sorted({*self.builder.texts.items(), *self.builder.cut_texts.items()})
        dev = [self.dev.texts, [sorted(right) for right in self.dev.relevant], self.dev.passage_ids, self.dev.passages]
        return hash_json([self.base_hash, data, builder, texts, dev, vars(self.settings)])

    def loss(self, epoch: int, number: int) -> "tuple[torch.Tensor, dict[str, float]]":
        """InfoNCE of one batch; figures: share of queries whose positive comes first, and cosines of both kinds."""
        import torch

        batch = self.builder.batch(epoch, number)
        device = self.encoder.machine.device
        queries = self.embed(batch.queries, "query", self.settings.max_query_tokens)
        passages = self.embed(batch.passages, "passage", self.settings.max_passage_tokens)
        targets = torch.from_numpy(batch.targets).to(device)
        ignored = torch.from_numpy(batch.ignored).to(device)
        loss, cosines = info_nce(queries, passages, targets, ignored, self.settings.temperature)
        with torch.no_grad():
            rows = torch.arange(len(targets), device=device)
            positive = cosines[rows, targets]
            others = cosines.masked_fill(ignored, -1.0)
            others[rows, targets] = -1.0
            hardest = others.max(dim=1).values
            figures = {
                "in_batch_accuracy": (positive > hardest).float().mean().item(),
                "positive_cosine": positive.mean().item(),
                "hardest_negative_cosine": hardest.mean().item(),
            }
        return loss, figures

    def embed(self, texts: Sequence[str], kind: Kind, max_tokens: int) -> "torch.Tensor":
        """Unit vectors of the texts in their order, shape (len(texts), dimension), with gradient.

        Texts are sorted by length and computed in several passes, so that short ones are not padded to the longest.
        """
        import torch
        from torch.utils.checkpoint import checkpoint

        token_ids = [shortened(ids, max_tokens) for ids in self.encoder.token_ids(texts, kind)]
        batches = self.encoder.batches(token_ids, self.settings.micro_tokens)
        # Computed again in the backward pass, one part at a time: a batch of any size needs the memory of one part.
        # The gradient is the same (as with GradCache, Gao et al. 2021).
        vectors = torch.cat(
            [
                checkpoint(self.encoder.forward, [token_ids[place] for place in batch], kind, use_reentrant=False)
                for batch in batches
            ]
        )
        order = torch.tensor([place for batch in batches for place in batch], device=vectors.device)
        return vectors[torch.argsort(order)]

    def evaluate(self) -> float:
        """nDCG@10 of the dev questions over the pool."""
        return dev_score(self.encoder, self.dev)


def dev_score(encoder: Encoder, dev: DevSet) -> float:
    """nDCG@10 of an encoder on dev; higher is better."""
    index = DenseIndex(dev.passage_ids, encoder.encode(dev.passages, "passage"))
    _, rows = index.search(encoder.encode(dev.texts, "query"), k=10)
    ids = np.asarray(dev.passage_ids, dtype=object)
    return ndcg([list(ids[row]) for row in rows], dev.relevant, k=10)


def shortened(token_ids: list[int], limit: int) -> list[int]:
    """The ids cut to `limit`, the last (the model's end mark) kept."""
    return token_ids if len(token_ids) <= limit else [*token_ids[: limit - 1], token_ids[-1]]


def set_dropout(module: "torch.nn.Module", share: float) -> None:
    """Set every dropout layer of a model."""
    import torch

    for layer in module.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = share
