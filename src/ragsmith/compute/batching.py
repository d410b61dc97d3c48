"""Batches of sequences of like length, so that little of what is computed is padding."""

from collections.abc import Sequence


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
