"""Intervals, p-values and detectable differences for per-query scores."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from ragsmith.evaluate._checks import repeated, require_columns, some

Values: TypeAlias = Sequence[float] | npt.NDArray[np.floating[Any]] | pd.Series

# Numbers held at once while resampling: 16 MB as float64, whatever the count of queries.
_BLOCK = 2**21


@dataclass(frozen=True)
class Comparison:
    """How system b does against system a on one metric, over the same queries.

    Attributes:
        difference: mean of b minus mean of a; above 0 where b is better.
        ci95: percentile bootstrap interval of the difference, over queries.
        p: two-sided sign-flip permutation test.
        p_holm: the same after Holm's correction for everything compared together.
    """

    a: str
    b: str
    metric: str
    difference: float
    ci95: tuple[float, float]
    p: float
    p_holm: float


def bootstrap_interval(
    values: Values, *, samples: int = 10_000, level: float = 0.95, seed: int
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean, resampling queries (Efron, 1979).

    Args:
        values: one number per query, at least two.
        samples: resamples, at least 1.
        level: share of resampled means inside, between 0 and 1.
        seed: of numpy's Generator; the same seed and order of values give the same interval.
    Returns:
        lower and upper end.
    Raises:
        ValueError: fewer than two values, or one that is not finite.
    """
    from scipy.stats import bootstrap

    numbers = _finite(values)
    if numbers.min() == numbers.max():
        return float(numbers[0]), float(numbers[0])  # every resample is alike; scipy would return it with a warning
    # Percentile and not BCa: BCa is undefined when one query decides all, which small test sets come near to.
    result = bootstrap(
        (numbers,), np.mean, n_resamples=samples, confidence_level=level, method="percentile",
        batch=max(1, _BLOCK // len(numbers)), vectorized=True, rng=np.random.default_rng(seed),
    )  # fmt: skip
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def paired_permutation_test(a: Values, b: Values, *, samples: int = 10_000, seed: int) -> float:
    """Two-sided p-value that paired values differ in mean, by flipping the signs of their differences.

    Args:
        a: one number per query, at least two.
        b: the same queries in the same order.
        samples: random flips, at least 1. The least p that can come out is 1 / (samples + 1).
        seed: of numpy's Generator.
    Returns:
        (count + 1) / (samples + 1), where count is how many flips differ at least as much as the data do: never 0,
        and valid as a test at every number of samples (Phipson and Smyth, 2010).
    Raises:
        ValueError: the lengths differ, fewer than two values, or one that is not finite.
    """
    # Not scipy.stats.permutation_test: it gives the same answer but permutes pairs by sorting, 14 times slower at
    # 2,000 queries (.54 s against .04 s), and doubles the smaller tail instead of counting both.
    first, second = _finite(a), _finite(b)
    if len(first) != len(second):
        raise ValueError(f"A paired test needs the same queries twice; got {len(first)} and {len(second)} values.")
    differences = second - first
    observed = abs(differences.sum())
    # Flips that equal the data up to rounding count as equal, or p would come out too small.
    least = observed - 1e-12 * max(1.0, float(np.abs(differences).sum()))
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK // len(differences))
    count = 0
    for start in range(0, samples, block):
        shape = (min(block, samples - start), len(differences))
        kept = rng.integers(0, 2, shape, dtype=np.int8).astype(np.float64)  # 1: sign kept, 0: flipped
        count += int((np.abs(2 * (kept @ differences) - differences.sum()) >= least).sum())
    return (count + 1) / (samples + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for being many (Holm, 1979): the chance of any false finding stays below the level used.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]

    Args:
        p_values: each between 0 and 1.
    Returns:
        corrected p-values in the same order.
    """
    order = np.argsort(p_values, kind="stable")
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for step, position in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - step) * float(p_values[position])))
        corrected[position] = highest
    return corrected


def smallest_detectable_difference(differences: Values, *, power: float = 0.8, alpha: float = 0.05) -> float:
    """Least true difference in mean that this many queries would show with the wanted power.

    (z of 1 − alpha / 2 plus z of power) · sd / √n, two-sided and before any correction for many comparisons.

    Args:
        differences: b − a, one per query, at least two.
        power: chance of finding it.
        alpha: level of the test.
    Raises:
        ValueError: fewer than two values, or one that is not finite.
    """
    from scipy.stats import norm

    numbers = _finite(differences)
    return float((norm.ppf(1 - alpha / 2) + norm.ppf(power)) * numbers.std(ddof=1) / np.sqrt(len(numbers)))


def compare(
    a: pd.DataFrame, b: pd.DataFrame, *, names: tuple[str, str] = ("a", "b"), samples: int = 10_000, seed: int
) -> list[Comparison]:
    """Compare two systems query by query, on each metric they share.

    Args:
        a: query_id, metric, value, as `score_run` returns them.
        b: the same queries and metrics.
        names: of the two systems, for the result.
        samples: of bootstrap and permutation test.
        seed: of both.
    Returns:
        one Comparison for each metric, in order of appearance in `a`; p_holm corrects for these metrics. To compare
        several pairs, pass all results to `correct_together`.
    Raises:
        ValueError: the tables hold different queries or metrics, or a query twice.
    """
    comparisons = []
    for metric, differences in paired_differences(a, b, names=names).items():
        interval = bootstrap_interval(differences, samples=samples, seed=seed)
        p = paired_permutation_test(np.zeros(len(differences)), differences, samples=samples, seed=seed)
        comparisons.append(Comparison(*names, metric, float(differences.mean()), interval, p, p))
    return correct_together(comparisons)


def correct_together(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Set each p_holm anew, with all these comparisons as one family: what is shown together is corrected together."""
    corrected = holm([comparison.p for comparison in comparisons])
    return [replace(comparison, p_holm=p) for comparison, p in zip(comparisons, corrected, strict=True)]


def paired_differences(
    a: pd.DataFrame, b: pd.DataFrame, *, names: tuple[str, str] = ("a", "b")
) -> dict[str, npt.NDArray[np.float64]]:
    """Values of b minus those of a, per metric and query, ordered by query_id: the same seed gives the same result.

    Raises:
        ValueError: as in `compare`.
    """
    keys = ["metric", "query_id"]
    for name, table in zip(names, (a, b), strict=True):
        require_columns(table, name, [*keys, "value"])
        if doubles := repeated(table, keys):
            raise ValueError(f"System {name!r} has two values for (metric, query_id) {some(doubles)}; keep one.")
    left, right = a.set_index(keys)["value"].sort_index(), b.set_index(keys)["value"].sort_index()
    if not left.index.equals(right.index):
        apart = left.index.symmetric_difference(right.index).tolist()
        raise ValueError(
            f"Systems {names[0]!r} and {names[1]!r} were not scored on the same (metric, query_id): only one of them "
            f"has {some(apart)}. Score both with the same qrels and metrics."
        )
    differences = right - left
    return {str(metric): differences.loc[metric].to_numpy(dtype=np.float64) for metric in a["metric"].unique()}


def _finite(values: Values) -> npt.NDArray[np.float64]:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or len(numbers) < 2:
        raise ValueError(f"Uncertainty needs at least two queries; got values of shape {numbers.shape}.")
    if not np.isfinite(numbers).all():
        raise ValueError(f"{int((~np.isfinite(numbers)).sum())} of {len(numbers)} values are NaN or infinite.")
    return numbers
