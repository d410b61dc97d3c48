"""Where each sequence of a packed batch lies."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch


class Group(NamedTuple):
    """Neighbouring sequences of equal length: rows `start` to `start + sequences * length`."""

    start: int
    sequences: int
    length: int


@dataclass(frozen=True)
class Layout:
    """A batch of sequences laid end to end.

    Attributes:
        lengths: tokens of each sequence, at least 1. Sorted lengths give few groups, and groups are computed at once.
        device: where index tensors are made.
    """

    lengths: tuple[int, ...]
    device: "torch.device | str" = "cpu"

    @property
    def tokens(self) -> int:
        """Rows of the batch."""
        return sum(self.lengths)

    @cached_property
    def groups(self) -> list[Group]:
        """Runs of neighbours of equal length, in order."""
        groups: list[Group] = []
        start = 0
        for length in self.lengths:
            if groups and groups[-1].length == length:
                groups[-1] = groups[-1]._replace(sequences=groups[-1].sequences + 1)
            else:
                groups.append(Group(start, 1, length))
            start += length
        return groups

    @cached_property
    def positions(self) -> "torch.Tensor":
        """Place of each token in its sequence, int64, shape (tokens,)."""
        import torch

        return torch.arange(self.tokens, device=self.device) - self.starts.repeat_interleave(self._length_tensor)

    @cached_property
    def starts(self) -> "torch.Tensor":
        """Row of each sequence's first token, int64, shape (sequences,)."""
        return self.boundaries[:-1].long()

    @cached_property
    def boundaries(self) -> "torch.Tensor":
        """Row of each sequence's first token and the row after the last, int32, shape (sequences + 1,)."""
        import torch

        zero = torch.zeros(1, dtype=torch.int64, device=self.device)
        return torch.cat([zero, self._length_tensor.cumsum(0)]).int()

    @cached_property
    def sequence_of(self) -> "torch.Tensor":
        """Number of the sequence that each token belongs to, int64, shape (tokens,)."""
        import torch

        return torch.arange(len(self.lengths), device=self.device).repeat_interleave(self._length_tensor)

    @cached_property
    def _length_tensor(self) -> "torch.Tensor":
        import torch

        return torch.tensor(self.lengths, dtype=torch.int64, device=self.device)


def pack(token_ids: Sequence[Sequence[int]], device: "torch.device | str") -> "tuple[torch.Tensor, Layout]":
    """Token ids end to end, int64, shape (tokens,), and their layout.

    Raises:
        ValueError: a sequence is empty.
    """
    import torch

    lengths = tuple(len(sequence) for sequence in token_ids)
    if not all(lengths):
        raise ValueError(f"Sequence {lengths.index(0)} has no token: nothing can be computed of it.")
    flat = torch.tensor([token for sequence in token_ids for token in sequence], dtype=torch.int64)
    return flat.to(device), Layout(lengths, device)
