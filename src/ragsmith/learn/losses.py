"""Losses of the retriever, one formula a function: pure functions of vectors, in float32.

A group is what one query is compared with by a teacher: its positive, then its own negatives. Groups of a batch are
rows of unequal length, so they come as `groups` (int64, shape (queries, longest group): rows of the candidates,
positive first) and `mask` (bool, same shape: which entries are real; the others may hold anything).
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def info_nce(
    queries: "torch.Tensor",
    candidates: "torch.Tensor",
    targets: "torch.Tensor",
    ignored: "torch.Tensor",
    temperature: float,
) -> "tuple[torch.Tensor, torch.Tensor]":
    """InfoNCE over a batch's own candidates (van den Oord et al. 2018, equation 4; in-batch negatives as in DPR 2020).

    Args:
        queries: unit vectors, shape (queries, dimension).
        candidates: unit vectors of all passages in the batch, shape (candidates, dimension).
        targets: int64, shape (queries,): the row of each query's own positive among the candidates.
        ignored: bool, shape (queries, candidates): other right passages of the query; neither pulled nor pushed.
        temperature: divides the cosines, above 0.
    Returns:
        The mean loss, and the cosines of shape (queries, candidates).
    """
    import torch

    cosines = queries @ candidates.T  # (queries, candidates)
    logits = (cosines / temperature).masked_fill(ignored, float("-inf"))
    return torch.nn.functional.cross_entropy(logits, targets), cosines


def mask_false_negatives(
    cosines: "torch.Tensor", targets: "torch.Tensor", ignored: "torch.Tensor", margin: float
) -> "torch.Tensor":
    """What `info_nce` shall ignore besides: candidates that the model itself finds better than the positive.

    In a batch, a candidate that scores above the positive is more often an answer that nobody has marked than a
    mistake of the model (Qwen3-Embedding, Zhang et al. 2025, equation 2, with a margin of 0.1).

    Args:
        cosines: shape (queries, candidates), as `info_nce` returns them.
        targets, ignored: as in `info_nce`.
        margin: a candidate is ignored when its cosine is above that of the positive plus this; 0 or more.
    Returns:
        bool, shape (queries, candidates): `ignored`, and the false negatives. The positive is never among them.
    """
    positive = cosines.detach().gather(1, targets[:, None])  # (queries, 1)
    # Not above itself by rounding alone: the comparison is strict, and with margin 0 the same number is compared.
    return ignored | (cosines.detach() > positive + margin)


def distillation(
    queries: "torch.Tensor",
    candidates: "torch.Tensor",
    groups: "torch.Tensor",
    mask: "torch.Tensor",
    teacher_scores: "torch.Tensor",
    student_temperature: float,
    teacher_temperature: float,
) -> "torch.Tensor":
    """How far the retriever's ranking of each group is from the teacher's (listwise KL; Lin et al. 2020).

    The sum over a group of p log(p / q), p the softmax of the teacher's scores and q that of the cosines, meaned over
    the queries with at least two real entries: one entry alone has no order. Without any such query the loss is 0.

    It is not multiplied by the squared student temperature, as DistillKLDivLoss of sentence-transformers is: with
    cosines that temperature is near 0.05, and the product all but vanishes beside another loss. FlagEmbedding's
    `kl_div` is this plus the teacher's entropy: the same gradient.

    Args:
        queries, candidates: unit vectors, shapes (queries, dimension) and (candidates, dimension).
        groups, mask: see the head of this file.
        teacher_scores: shape of `groups`, on any scale; those of entries that are not real may be nan.
        student_temperature, teacher_temperature: divide the cosines and the teacher's scores, above 0. The teacher's
            is to match the spread of its scores.
    Returns:
        The mean over queries, 0 or above.
    """
    import torch

    comparable = mask.sum(dim=1) >= 2
    if not bool(comparable.any()):
        return nothing_to_learn(queries, candidates)
    mask = mask[comparable]
    # The lowest number instead of minus infinity: 0 times (-inf - -inf) would be nan, and so would the gradient.
    lowest = torch.finfo(torch.float32).min
    student = group_cosines(queries, candidates, groups)[comparable] / student_temperature  # (comparable, group)
    teacher = teacher_scores.detach().float()[comparable] / teacher_temperature
    student_log = student.masked_fill(~mask, lowest).log_softmax(dim=1)
    teacher_log = teacher.masked_fill(~mask, lowest).log_softmax(dim=1)
    return torch.nn.functional.kl_div(student_log, teacher_log, reduction="batchmean", log_target=True)


def margin_mse(
    queries: "torch.Tensor",
    candidates: "torch.Tensor",
    groups: "torch.Tensor",
    mask: "torch.Tensor",
    teacher_scores: "torch.Tensor",
    scale: float = 1.0,
) -> "torch.Tensor":
    """Squared error of how far each negative lies below the positive (Hofstätter et al. 2020, equation 4; GPL 2022).

    Meaned over all pairs of a positive and a real negative in the batch; a query whose positive is not real, or that
    has no negative, adds nothing, and without any pair the loss is 0. Equal to MarginMSELoss of sentence-transformers.

    Cosines differ by 2 at most, and a cross-encoder's logits by 20: `scale` brings the one to the other.

    Args:
        queries, candidates: unit vectors, shapes (queries, dimension) and (candidates, dimension).
        groups, mask: see the head of this file.
        teacher_scores: shape of `groups`; those of entries that are not real may be nan.
        scale: what margins of cosines are multiplied by.
    Returns:
        The mean over pairs.
    """
    import torch

    pairs = mask[:, 1:] & mask[:, :1]  # (queries, negatives)
    if not bool(pairs.any()):
        return nothing_to_learn(queries, candidates)
    student = group_cosines(queries, candidates, groups)
    teacher = teacher_scores.detach().float()
    margins = scale * (student[:, :1] - student[:, 1:])[pairs]
    return torch.nn.functional.mse_loss(margins, (teacher[:, :1] - teacher[:, 1:])[pairs])


def matryoshka(
    loss: "Callable[[torch.Tensor, torch.Tensor], torch.Tensor]",
    queries: "torch.Tensor",
    candidates: "torch.Tensor",
    dimensions: Sequence[int],
    weights: Sequence[float] | None = None,
) -> "torch.Tensor":
    """Weighted sum of a loss over the first numbers of each vector, so that vectors can be cut later.

    Matryoshka representation learning (Kusupati et al. 2022, equation 1); equal to MatryoshkaLoss of
    sentence-transformers, and to FlagEmbedding's with weights of 1 / len(dimensions).

    Args:
        loss: of queries and candidates, such as one of the above with its other arguments bound.
        queries, candidates: shapes (queries, dimension) and (candidates, dimension).
        dimensions: how many of the first numbers to keep, each time; what is kept is brought to unit length again.
            The full dimension is trained only if it is among them.
        weights: one per dimension; 1 each by default.
    Raises:
        ValueError: no dimension, one that the vectors do not have, or another number of weights.
    """
    from torch.nn.functional import normalize

    width = queries.shape[1]
    if not dimensions or min(dimensions) < 1 or max(dimensions) > width:
        raise ValueError(f"dimensions is {list(dimensions)}: give at least one, each from 1 to {width}.")
    if weights is not None and len(weights) != len(dimensions):
        raise ValueError(f"There are {len(weights)} weights for {len(dimensions)} dimensions: give one for each.")
    terms = [
        weight * loss(normalize(queries[:, :size].float(), dim=1), normalize(candidates[:, :size].float(), dim=1))
        for size, weight in zip(dimensions, weights or [1.0] * len(dimensions), strict=True)
    ]
    return sum(terms[1:], terms[0])


def group_cosines(queries: "torch.Tensor", candidates: "torch.Tensor", groups: "torch.Tensor") -> "torch.Tensor":
    """Cosines of each query with its own group, float32, shape of `groups`; of entries that are not real, any."""
    # What is no row of a candidate must not be looked up; the caller's mask takes it out.
    rows = groups.clamp(0, len(candidates) - 1)
    return (queries.float()[:, None] * candidates.float()[rows]).sum(dim=2)


def nothing_to_learn(queries: "torch.Tensor", candidates: "torch.Tensor") -> "torch.Tensor":
    """A loss of 0 through which the gradient, all zeros, still flows."""
    return (queries.float().sum() + candidates.float().sum()) * 0
