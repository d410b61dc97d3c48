"""How far repeated judgements of the same things agree, and how far beyond chance."""

from typing import Any

import numpy as np
import numpy.typing as npt


def pairwise_agreement(counts: npt.ArrayLike) -> float:
    """Share of all pairs of judgements of one thing that are equal, averaged over things: Fleiss' P-bar.

    >>> pairwise_agreement([[3, 0], [2, 1]])  # of three pairs, all agree; one agrees
    0.6666666666666666

    Args:
        counts: shape (things, categories): how many judgements put the thing in the category. Each row has the same
            sum, of at least two.
    Raises:
        ValueError: no rows, rows with different sums, or sums below two.
    """
    table = _checked(counts)
    repeats = table.sum(axis=1)[0]
    return float(((table * (table - 1)).sum(axis=1) / (repeats * (repeats - 1))).mean())


def fleiss_kappa(counts: npt.ArrayLike) -> float | None:
    """Agreement beyond what chance would give, from the shares of the categories: 1 is full, 0 is chance's.

    (P-bar − P_e) / (1 − P_e), with P_e the sum of the squared shares.

    Args:
        counts: as for `pairwise_agreement`.
    Returns:
        kappa, or None where it is undefined: all judgements are in one category, so chance agrees as well.
    Raises:
        ValueError: as `pairwise_agreement`.

    Source:
        Fleiss, Psychological Bulletin 1971.
    """
    table = _checked(counts)
    shares = table.sum(axis=0) / table.sum()
    by_chance = float((shares**2).sum())
    if np.count_nonzero(shares) == 1:
        return None
    return (pairwise_agreement(table) - by_chance) / (1 - by_chance)


def _checked(counts: npt.ArrayLike) -> npt.NDArray[np.integer[Any]]:
    table = np.asarray(counts, dtype=np.int64)
    if table.ndim != 2 or len(table) == 0:
        raise ValueError(f"Agreement needs a row of counts for each thing; got an array of shape {table.shape}.")
    sums = table.sum(axis=1)
    if sums.min() != sums.max() or sums[0] < 2:
        raise ValueError(
            f"Agreement needs equally many judgements of each thing, at least two; got {sums.min()} to {sums.max()}."
        )
    return table
