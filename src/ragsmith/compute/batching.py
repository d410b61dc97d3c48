"""Batches of sequences of like length, so that little of what is computed is padding; and the padding."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def length_batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Positions of the sequences, longest first, in batches of at most `batch_tokens` padded tokens.

    A sequence that is longer than that is a batch of its own.

    >>> length_batches([1, 5, 4], batch_tokens=10)
    [[1, 2], [0]]
    """
    batches: list[list[int]] = []
    for position in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= batch_tokens:
            batches[-1].append(position)
        else:
            batches.append([position])
    return batches


def token_batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Positions of the sequences, longest first, in batches of at most `batch_tokens` tokens and no padding.

    A sequence that is longer than that is a batch of its own.

    >>> token_batches([1, 5, 4], batch_tokens=9)
    [[1, 2], [0]]
    """
    batches: list[list[int]] = []
    held = 0
    for position in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if batches and held + lengths[position] <= batch_tokens:
            batches[-1].append(position)
            held += lengths[position]
        else:
            batches.append([position])
            held = lengths[position]
    return batches


def padded(
    rows: Sequence[Sequence[int]], pad: int, device: str, width: int | None = None
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Rows of ids side by side.

    Args:
        rows: ids, at least one row.
        pad: what stands behind the shorter ones.
        device: of the result.
        width: of the result; None takes that of the longest row.
    Returns:
        int64 and bool (True where an id stands), both of shape (rows, width).
    """
    import torch

    shape = (len(rows), max(len(row) for row in rows) if width is None else width)
    ids, shown = torch.full(shape, pad, dtype=torch.long), torch.zeros(shape, dtype=torch.bool)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row, dtype=torch.long)
        shown[place, : len(row)] = True
    return ids.to(device), shown.to(device)
