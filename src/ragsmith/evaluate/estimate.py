"""A mean with its interval, as every part of metrics.json holds it."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ragsmith.evaluate._resampling import exact_means, resampled_mean
from ragsmith.evaluate.significance import Values


def estimate(values: Values, *, samples: int = 10_000, seed: int) -> dict[str, Any]:
    """The mean of scores between 0 and 1, with its 95 % percentile bootstrap interval; for groups of any size.

    One value alone has no spread to resample: its interval is everything that a score can be, 0 to 1. Scores of all
    queries go to `significance.estimates` instead, which refuses to speak of one query.

    Args:
        values: one score per query, each 0 to 1, at least one.
        samples: resamples, at least 1.
        seed: of numpy's Generator.
    Returns:
        {"mean": float, "ci95": [low, high]}.
    Raises:
        ValueError: no value, or one that is not between 0 and 1.
    """
    numbers = scores(values)
    mean = float(exact_means(numbers[:, None])[0])
    if len(numbers) == 1:
        return {"mean": mean, "ci95": [0.0, 1.0]}
    means = resampled_mean(numbers, samples, np.random.default_rng(seed))
    low, high = np.quantile(means, [0.025, 0.975])
    return {"mean": mean, "ci95": [float(low), float(high)]}


def scores(values: Values) -> npt.NDArray[np.float64]:
    """Scores as one float64 array, checked to be between 0 and 1.

    Raises:
        ValueError: no value, or one that is missing or outside.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or not len(numbers):
        raise ValueError(f"A mean needs at least one query; got values of shape {numbers.shape}.")
    wrong = ~((numbers >= 0) & (numbers <= 1))  # not "< 0 or > 1", which lets NaN pass
    if wrong.any():
        first = int(wrong.argmax())
        raise ValueError(
            f"{int(wrong.sum())} of {len(numbers)} scores are missing or not between 0 and 1, the first of them "
            f"{numbers[first]}, in row {first}. Look at the step that made them."
        )
    return numbers
