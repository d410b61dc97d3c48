"""Whole numbers that stand for texts, and reproducible chance drawn from them."""

import hashlib
from collections.abc import Sequence

import numpy as np


def text_keys(texts: Sequence[str]) -> np.ndarray:
    """One number per text, uint64: equal texts have equal ones, and no two others will ever meet.

    >>> bool(text_keys(["a", "b", "a"])[0] == text_keys(["a"])[0])
    True
    """
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def equality_keys(texts: Sequence[str]) -> np.ndarray:
    """As `text_keys`, int64, at a fraction of the time; but other ones in each process, so that none may be kept."""
    return np.fromiter(map(hash, texts), dtype=np.int64, count=len(texts))


def mix(values: np.ndarray) -> np.ndarray:
    """Numbers without any visible relation to these, one to one: uint64 (SplitMix64; Steele et al., OOPSLA 2014)."""
    mixed = np.asarray(values, dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def random_numbers(seed: int, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """A random number below 2**64 for each pair: the same for the same seed and pair, whatever else is drawn.

    So what a query draws depends neither on other queries nor on their order.

    Args:
        seed: any; another one gives other numbers.
        one, other: uint64 keys that broadcast together.
    """
    seeded = mix(np.asarray([seed & 0xFFFFFFFFFFFFFFFF], dtype=np.uint64))
    return mix(mix(one ^ seeded) + other)
