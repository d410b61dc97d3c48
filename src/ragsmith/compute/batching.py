"""Batches of sequences of like length, so that little of what is computed is padding; and the padding."""

from bisect import bisect_right
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

    Room that the next sequence does not fit into is filled with the longest that do: all batches but the last are
    about full. A sequence that is longer than a batch is one of its own.

    >>> token_batches([1, 5, 4, 4], batch_tokens=10)
    [[1, 2, 0], [3]]
    """
    waiting: dict[int, list[int]] = {}
    for position in range(len(lengths) - 1, -1, -1):
        waiting.setdefault(lengths[position], []).append(position)
    sizes = sorted(waiting)
    batches: list[list[int]] = []
    while sizes:
        batch: list[int] = []
        room = max(batch_tokens, sizes[-1])
        while fitting := bisect_right(sizes, room):
            size = sizes[fitting - 1]
            batch.append(waiting[size].pop())
            room -= size
            if not waiting[size]:
                del sizes[fitting - 1]
        batches.append(batch)
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
