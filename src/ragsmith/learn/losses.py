"""Losses of the retriever, one formula a function."""

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
