"""Draw queries, signs and groups at random, for all columns of a matrix at once.

What is drawn does not depend on the columns, so it is drawn once, and one matrix product gives every column its sums:
fifty metrics cost little more than one. Queries and signs are drawn as whole words of the generator, so that the size
of the blocks changes no result.
"""

from collections.abc import Iterator
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Matrix: TypeAlias = npt.NDArray[np.float64]

# Numbers in a block of samples: 16 MB as float64, whatever the count of queries.
BLOCK = 2**21


def exact_means(matrix: Matrix) -> npt.NDArray[np.float64]:
    """Column means; of equal values exactly that value, so that a mean lies within its interval to the last digit."""
    least = matrix.min(axis=0)
    return np.asarray(least + (matrix - least).mean(axis=0))


def resampled_means(matrix: Matrix, samples: int, rng: np.random.Generator) -> Matrix:
    """Column means of resamples of the rows, with replacement (Efron, 1979).

    Args:
        matrix: rows are queries, at least one.
        samples: resamples.
    Returns:
        shape (samples, columns). A column of equal values has exactly that value as its mean, without rounding.
    """
    rows, columns = matrix.shape
    least = matrix.min(axis=0)
    above = matrix - least
    means = np.empty((samples, columns))
    for start, count in _blocks(samples, rows):
        drawn = rng.integers(0, rows, (count, rows), dtype=np.int32).astype(np.int64)
        drawn += np.arange(count)[:, None] * rows
        times = np.bincount(drawn.ravel(), minlength=count * rows).reshape(count, rows)
        means[start : start + count] = times.astype(np.float64) @ above / rows
    return np.asarray(least + means)


def extreme_flips(differences: Matrix, samples: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Count how many random flips of all signs give a column a sum at least as far from 0 as it has.

    Args:
        differences: rows are queries; a flip takes the same signs for every column.
        samples: flips.
    Returns:
        a count for each column.
    """
    rows, columns = differences.shape
    total = differences.sum(axis=0)
    # Flips that equal the data up to rounding count as equal, or p would come out too small.
    least = np.abs(total) - 1e-12 * np.maximum(1.0, np.abs(differences).sum(axis=0))
    counts = np.zeros(columns, dtype=np.int64)
    for _, count in _blocks(samples, rows):
        words = rng.integers(0, 2**64 - 1, (count, -(-rows // 64)), dtype=np.uint64, endpoint=True)
        kept = np.unpackbits(words.astype("<u8").view(np.uint8), axis=1, count=rows)  # 1: sign kept, 0: flipped
        # float64, although float32 takes half the memory: its sums of 10,000 thirds are 6e-5 apart where they tie.
        counts += (np.abs(2 * (kept.astype(np.float64) @ differences) - total) >= least).sum(axis=0)
    return counts


def group_means(
    values: npt.NDArray[np.float64], size: int, samples: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Means of random groups of `size` values, drawn without replacement, and of the values left over.

    A group is drawn as how many of each distinct value it holds, which is all that its mean depends on: exact match
    has two distinct values, and then ten thousand groups of ten thousand queries take a millisecond.

    Args:
        values: one number per query.
        size: of the group, at least 1 and below the number of values.
        samples: groups.
    Returns:
        two arrays of shape (samples,).
    """
    distinct, counts = np.unique(values, return_counts=True)
    method: Literal["marginals", "count"] = "marginals" if _few(distinct, values) else "count"
    inside = np.empty(samples)
    for start, count in _blocks(samples, len(distinct)):
        drawn = rng.multivariate_hypergeometric(counts, size, size=count, method=method)
        inside[start : start + count] = drawn @ distinct
    return inside / size, (distinct @ counts - inside) / (len(values) - size)


def resampled_mean(values: npt.NDArray[np.float64], samples: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """As `resampled_means` for one column, faster where few of its values are distinct."""
    distinct, counts = np.unique(values, return_counts=True)
    if not _few(distinct, values):
        return resampled_means(values[:, None], samples, rng)[:, 0]
    drawn = rng.multinomial(len(values), counts / len(values), samples)
    return np.asarray(distinct[0] + drawn @ (distinct - distinct[0]) / len(values))


def _few(distinct: npt.NDArray[np.float64], values: npt.NDArray[np.float64]) -> bool:
    # A binomial draw takes about as long as sixteen whole numbers do.
    return 16 * len(distinct) < len(values)


def _blocks(samples: int, rows: int) -> Iterator[tuple[int, int]]:
    """First sample and number of samples of each block that holds at most BLOCK numbers."""
    size = max(1, BLOCK // rows)
    for start in range(0, samples, size):
        yield start, min(size, samples - start)
