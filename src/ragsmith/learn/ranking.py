"""The score by which training is steered: nDCG@10 on dev."""

from collections import Counter
from collections.abc import Sequence

import numpy as np


def ndcg(ranked: Sequence[Sequence[str]], relevant: Sequence[set[str]], k: int = 10) -> float:
    """Mean nDCG@k with binary grades (Järvelin and Kekäläinen 2002); equal to `evaluate`'s on the same lists.

    Args:
        ranked: passage ids per query, best first.
        relevant: the right ones per query; none may be empty.
        k: depth, at least 1.
    Raises:
        ValueError: no queries, or one without a right passage.
    """
    if not ranked or not all(relevant):
        raise ValueError("nDCG needs at least one query, and a right passage for each.")
    scores = []
    for found, right in zip(ranked, relevant, strict=True):
        gain = sum(1 / np.log2(place + 2) for place, passage_id in enumerate(found[:k]) if passage_id in right)
        best = sum(1 / np.log2(place + 2) for place in range(min(k, len(right))))
        scores.append(gain / best)
    return float(np.mean(scores))


def share_of_commonest(ranked: Sequence[Sequence[str]]) -> float:
    """The share of queries that get the same passages as most others, in any order; 1 / queries when all differ.

    >>> share_of_commonest([["a", "b"], ["b", "a"], ["c", "a"]])
    0.6666666666666666
    """
    sets = Counter(frozenset(found) for found in ranked)
    return max(sets.values()) / len(ranked)
