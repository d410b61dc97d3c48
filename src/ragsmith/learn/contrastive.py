"""Contrastive training of a bi-encoder with in-batch and mined negatives."""

import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from ragsmith.compute.memory import activation_budget, limits_of, set_limits
from ragsmith.compute.ranks import gathered, rank, together, world
from ragsmith.learn.embedding import TrainingEncoder, set_dropout, shortened
from ragsmith.learn.loop import PlainTask
from ragsmith.learn.losses import distillation, info_nce, margin_mse, mask_false_negatives, matryoshka
from ragsmith.learn.ranking import ndcg, share_of_commonest
from ragsmith.learn.training_data import Batch, BatchBuilder, Example
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.index import DenseIndex
from ragsmith.retrieve.routes import Kind
from ragsmith.store import hash_json

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

Loss = Literal["auto", "infonce", "distillation", "margin_mse"]


@dataclass(frozen=True)
class ContrastiveSettings:
    """How a batch becomes a loss.

    Attributes:
        loss: `infonce`; `distillation` (KL to the teacher's scores, with a share of InfoNCE); `margin_mse`; `auto`
            takes distillation when all examples have a teacher's scores.
        temperature: of InfoNCE.
        in_batch_negatives: whether the other queries' passages are negatives too.
        false_negative_margin: passages of the batch that score above the positive plus this are no negatives
            (Qwen3-Embedding, Zhang et al. 2025); None takes all.
        distillation_weight: share of the KL term; the rest is InfoNCE.
        student_temperature, teacher_temperature: of the KL term.
        margin_scale: of margin_mse: what margins of cosines are multiplied by, to meet the teacher's.
        matryoshka: lengths of the prefixes of the vector that are trained too (Kusupati et al. 2022).
        max_query_tokens, max_passage_tokens: longer texts are cut.
        fix_position_embedding: whether the embeddings of positions stay as they are.
        dropout: share of activations dropped; None takes the model's own, which costs a third of the time on a
            processor.
        micro_tokens: tokens in one forward pass; a batch is sorted by length and split, the loss is the same.
        activation_gib: when a batch needs more for its backward pass, it is computed twice and kept in parts; None
            goes by the memory of the machine or the card, see `activation_budget`.
    """

    loss: Loss = "auto"
    temperature: float = 0.05
    in_batch_negatives: bool = True
    false_negative_margin: float | None = None
    distillation_weight: float = 0.9
    student_temperature: float = 0.05
    teacher_temperature: float = 0.3
    margin_scale: float = 1.0
    matryoshka: tuple[int, ...] = ()
    max_query_tokens: int = 64
    max_passage_tokens: int = 128
    fix_position_embedding: bool = False
    dropout: float | None = 0.0
    micro_tokens: int = 4096
    activation_gib: float | None = None


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


class TokenBatch(NamedTuple):
    """A batch with its texts as token ids."""

    batch: Batch
    queries: list[list[int]]
    passages: list[list[int]]


class ContrastiveTask(PlainTask):
    """The retriever as the loop trains it.

    Several processes (`compute.ranks`) share each batch: its texts are dealt out, the vectors gathered, and the loss
    is that of the whole batch.

    Args:
        encoder: its model is trained in place.
        builder: gives the batches; where the loss needs a teacher's scores, of examples in which none is NaN.
        dev: gives the score.
        settings: see `ContrastiveSettings`.
        base_hash: content hash of the model before training.
    Raises:
        ValueError: the loss needs a teacher's scores and the examples have none, or a Matryoshka prefix is longer than
            the vectors.
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
        self.loss_name = loss_name(settings, builder.examples, builder.negatives)
        if any(length > encoder.dimension for length in settings.matryoshka):
            raise ValueError(
                f"matryoshka {list(settings.matryoshka)} is longer than the model's vectors ({encoder.dimension})."
            )
        longest = max(settings.max_query_tokens, settings.max_passage_tokens)
        kept = activation_budget(settings.activation_gib, encoder.machine.device, world())
        self.vectors = TrainingEncoder(encoder, settings.micro_tokens, kept, longest)
        self._ahead = ThreadPoolExecutor(1, "batches")
        self._coming: dict[tuple[int, int], Future[TokenBatch]] = {}
        self._said = False
        set_dropout(self.module, settings.dropout)
        if settings.fix_position_embedding:
            for name, parameter in self.module.named_parameters():
                parameter.requires_grad_(parameter.requires_grad and "position_embeddings" not in name)

    def identity(self) -> str:
        """Hash of all that decides the outcome."""
        data = [[e.query_id, e.text, e.positive_ids, e.negative_ids, e.teacher_scores] for e in self.builder.examples]
        builder = [self.builder.batch_size, self.builder.negatives, self.builder.cut_probability, self.builder.seed]
        texts = sorted({*self.builder.texts.items(), *self.builder.cut_texts.items()})
        dev = [self.dev.texts, [sorted(right) for right in self.dev.relevant], self.dev.passage_ids, self.dev.passages]
        return hash_json([self.base_hash, data, builder, texts, dev, asdict(self.settings), world()])

    def loss(self, epoch: int, number: int) -> "tuple[torch.Tensor, dict[str, float]]":
        """The loss of one batch.

        Figures: share of queries whose positive comes first, share of those that it is compared with nothing for,
        cosines, and their gap.
        """
        import torch

        tokens = self._tokens(epoch, number)
        recompute = self.vectors.must_recompute([*map(len, tokens.queries)], [*map(len, tokens.passages)])
        weights = self.encoder.weights()
        queries = self._embedded(tokens.queries, "query", recompute, weights)
        passages = self._embedded(tokens.passages, "passage", recompute, weights)
        batch, device = tokens.batch, self.encoder.machine.device
        targets, ignored, groups, grouped, teacher = (
            torch.from_numpy(array).to(device)
            for array in (batch.targets, batch.ignored, batch.groups, batch.grouped, batch.teacher)
        )

        def of(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
            return self._formula(one, other, targets, ignored, groups, grouped, teacher)

        if self.settings.matryoshka:
            loss = matryoshka(of, queries, passages, sorted({*self.settings.matryoshka, self.encoder.dimension}))
        else:
            loss = of(queries, passages)
        with torch.no_grad():
            figures = score_figures(queries @ passages.T, targets, ignored)
        if figures["without_negative"] == 1 and not self._said:
            self._said = True
            logger.warning(
                "batch %d of epoch %d: all its passages are right answers to each of its questions, so nothing can be "
                "learned from it; without_negative in the log tells the share of such questions",
                number,
                epoch,
            )
        return loss, figures

    def _formula(
        self,
        queries: "torch.Tensor",
        passages: "torch.Tensor",
        targets: "torch.Tensor",
        ignored: "torch.Tensor",
        groups: "torch.Tensor",
        grouped: "torch.Tensor",
        teacher: "torch.Tensor",
    ) -> "torch.Tensor":
        """The loss that the settings name, of one set of vectors."""
        import torch

        settings = self.settings
        if self.loss_name == "margin_mse":
            return margin_mse(queries, passages, groups, grouped, teacher, settings.margin_scale)
        if not settings.in_batch_negatives:
            # Added up, not set: places that a query lacks say False of the first passage, which may be its own.
            own = torch.zeros_like(ignored, dtype=torch.int64).scatter_add_(1, groups, grouped.long())
            ignored = ignored | (own == 0)
        if settings.false_negative_margin is not None:
            with torch.no_grad():
                cosines = queries @ passages.T
            ignored = mask_false_negatives(cosines, targets, ignored, settings.false_negative_margin)
        loss, _ = info_nce(queries, passages, targets, ignored, settings.temperature)
        if self.loss_name == "infonce":
            return loss
        taught = distillation(
            queries,
            passages,
            groups,
            grouped,
            teacher,
            settings.student_temperature,
            settings.teacher_temperature,
        )
        return settings.distillation_weight * taught + (1 - settings.distillation_weight) * loss

    def _embedded(self, token_ids: list[list[int]], kind: Kind, recompute: bool, weights: Any) -> "torch.Tensor":
        """Vectors of a batch's texts, computed by all processes together."""
        import torch

        # Dealt out by length, so that each process has as much to do as the others.
        order = sorted(range(len(token_ids)), key=lambda place: -len(token_ids[place]))
        shares = [order[place :: world()] for place in range(world())]
        with together():
            own = self.vectors.embed([token_ids[place] for place in shares[rank()]], kind, recompute, weights)
        rows = gathered(own, [len(share) for share in shares])
        dealt = torch.tensor([place for share in shares for place in share], device=rows.device)
        return rows[torch.argsort(dealt)]

    def _tokens(self, epoch: int, number: int) -> TokenBatch:
        """A batch as token ids; the next one is made meanwhile, in a thread of its own."""
        coming = self._coming.pop((epoch, number), None)
        self._coming.clear()
        tokens = self._tokenised(epoch, number) if coming is None else coming.result()
        following = (epoch, number + 1) if number + 1 < self.batches_per_epoch else (epoch + 1, 0)
        self._coming[following] = self._ahead.submit(self._tokenised, *following)
        return tokens

    def _tokenised(self, epoch: int, number: int) -> TokenBatch:
        batch = self.builder.batch(epoch, number)
        return TokenBatch(
            batch,
            self._cut(batch.queries, "query", self.settings.max_query_tokens),
            self._cut(batch.passages, "passage", self.settings.max_passage_tokens),
        )

    def _cut(self, texts: Sequence[str], kind: Kind, max_tokens: int) -> list[list[int]]:
        return [shortened(ids, max_tokens) for ids in self.encoder.token_ids(texts, kind)]

    def shrink(self) -> bool:
        """Need less memory for the same gradients; False when that cannot be."""
        return self.vectors.shrink()

    def state(self) -> dict[str, Any]:
        """How much memory it may take: a resumed run shall neither run out of it again nor compute otherwise."""
        return {"limits": limits_of(self.vectors)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with as much memory as before."""
        set_limits(self.vectors, state.get("limits", {}))

    def evaluate(self) -> tuple[float, dict[str, float]]:
        """nDCG@10 of the dev questions over the pool; figure: the share of questions with the commonest top 10."""
        return dev_scores(self.encoder, self.dev)


def loss_name(settings: ContrastiveSettings, examples: Sequence[Example], negatives: int) -> str:
    """The loss that is meant, and that the examples allow.

    Args:
        settings, examples: see there.
        negatives: of each query in a batch; a teacher's scores say something of a query's passages beside each other.
    Raises:
        ValueError: it needs a teacher's scores, and some examples have none, or it needs negatives.
    """
    taught = [bool(example.teacher_scores) for example in examples]
    if settings.loss == "auto":
        return "distillation" if negatives and taught and all(taught) else "infonce"
    if settings.loss != "infonce" and not negatives:
        raise ValueError(f"loss {settings.loss!r} needs negatives: with 0 of them nothing is learned of the teacher.")
    if settings.loss != "infonce" and not all(taught):
        raise ValueError(
            f"loss {settings.loss!r} needs a teacher's scores, and {taught.count(False)} of {len(taught)} training "
            "examples have none. Set models.reranker in globals.yml and mine again, give scores for all texts of the "
            "records that are trained on (pos_scores, neg_scores), or use loss: infonce."
        )
    return settings.loss


def tell_unused_scores(stage: str, examples: Sequence[Example], why: str) -> None:
    """Say in the log how many examples have a teacher's scores, if any, where InfoNCE passes over them."""
    if taught := sum(bool(example.teacher_scores) for example in examples):
        logger.info(
            "%s: %d of %d queries have a teacher's scores, which are not used: %s", stage, taught, len(examples), why
        )


def score_figures(cosines: "torch.Tensor", targets: "torch.Tensor", ignored: "torch.Tensor") -> dict[str, float]:
    """How well a batch is told apart.

    Args:
        cosines: shape (queries, passages).
        targets: int64, shape (queries,): each query's positive.
        ignored: bool, shape (queries, passages): neither right nor wrong.
    """
    import torch

    rows = torch.arange(len(targets), device=targets.device)
    positive = cosines[rows, targets]
    others = cosines.masked_fill(ignored, -1.0)
    others[rows, targets] = -1.0
    hardest = others.max(dim=1).values
    return {
        "in_batch_accuracy": (positive > hardest).float().mean().item(),
        "without_negative": (ignored.sum(dim=1) >= ignored.shape[1] - 1).float().mean().item(),
        "positive_cosine": positive.mean().item(),
        "hardest_negative_cosine": hardest.mean().item(),
        "score_gap": (positive - hardest).mean().item(),
    }


def dev_scores(encoder: Encoder, dev: DevSet, label: str = "") -> tuple[float, dict[str, Any]]:
    """nDCG@10 of an encoder on dev, higher is better; and the share of questions that get the commonest ten passages.

    That share rises to 1 when a model collapses, that is, answers everything alike.

    Args:
        encoder: as it is now.
        dev: questions and passages.
        label: of the progress that is shown; empty shows none.
    """
    index = DenseIndex(dev.passage_ids, encoder.encode(dev.passages, "passage", label))
    _, rows = index.search(encoder.encode(dev.texts, "query"), k=10)
    ids = np.asarray(dev.passage_ids, dtype=object)
    ranked = [list(ids[row]) for row in rows]
    return ndcg(ranked, dev.relevant, k=10), {"same_top10": share_of_commonest(ranked)}


def dev_score(encoder: Encoder, dev: DevSet, label: str = "") -> float:
    """nDCG@10 of an encoder on dev; see `dev_scores`."""
    return dev_scores(encoder, dev, label)[0]
