"""Ask whether the reader's confidence can be believed, and find the confidence from which on it may answer."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ragsmith.evaluate._checks import repeated, require_columns, some
from ragsmith.evaluate._resampling import BLOCK, resampled_means
from ragsmith.evaluate.estimate import scores
from ragsmith.evaluate.significance import Values

_MOST_POINTS = 101  # of a curve that is drawn
_LEAST_PER_BIN = 20  # the accuracy of fewer answers moves by chance alone as far as calibration is off


def calibrate(
    test: pd.DataFrame,
    dev: pd.DataFrame | None = None,
    *,
    target_accuracy: float = 0.8,
    bins: int = 10,
    samples: int = 10_000,
    seed: int,
) -> dict[str, Any] | None:
    """Calibration of the answers on test, and a threshold for no answer that was chosen on dev.

    An empty answer claims nothing: it is in no bin, lowers the coverage at every threshold, and is never an error.

    Args:
        test: query_id, answer (str, empty for none), em (0 or 1), score (the reader's confidence, 0 to 1).
        dev: the same for dev; None chooses no threshold.
        target_accuracy: share of right answers among those given that the threshold is to reach on dev.
        bins: see `reliability_bins`.
        samples: of the interval of the calibration error.
        seed: of that interval.
    Returns:
        queries: count of test; bins: `reliability_bins` as dictionaries; ece: {mean, ci95} of
        `expected_calibration_error`; risk_coverage: the curve thinned evenly to at most 101 points; aurc: float;
        threshold: {target_accuracy, value, dev: {coverage, accuracy}, test: {coverage, accuracy}}, or None without dev
        and where no threshold reaches the target. accuracy is None where nothing is answered.
        None for all where test has no answer at all: there is no confidence to judge.
    Raises:
        ValueError: a column is missing, no rows, a query twice, an em other than 0 and 1, or a score that is missing
            or outside of 0 to 1.
    """
    confidence, right = _answered(test, "test")
    if not len(confidence):
        return None
    curve = risk_coverage(confidence, right, queries=len(test))
    thinned = np.unique(np.linspace(0, len(curve) - 1, min(_MOST_POINTS, len(curve))).round().astype(int))
    return {
        "queries": len(test),
        "bins": reliability_bins(confidence, right, bins=bins).to_dict("records"),
        "ece": expected_calibration_error(confidence, right, bins=bins, samples=samples, seed=seed),
        "risk_coverage": curve.iloc[thinned].to_dict("records"),
        "aurc": area_under_risk_coverage(curve),
        "threshold": None if dev is None else _threshold(test, dev, target_accuracy),
    }


def reliability_bins(confidence: Values, right: Values, *, bins: int = 10) -> pd.DataFrame:
    """Confidence and accuracy of answers of like confidence: equal where the reader is calibrated.

    Each bin holds about as many answers as any other (Nixon et al., 2019): with bins of equal width, most answers of a
    sure reader fall into one. Fewer than 20 for each make fewer bins; answers of one confidence stay together.

    Args:
        confidence: one number per answer, 0 to 1, at least one.
        right: 0 or 1 for each.
        bins: the most there may be, at least 1.
    Returns:
        low, high (least and greatest confidence in the bin), queries (count), confidence (mean), accuracy (share of
        right answers); the least confident first. The same bins as sklearn's `calibration_curve` with quantiles.
    Raises:
        ValueError: no answer, lengths that differ, a value outside of 0 to 1, or no bin.
    """
    sure, correct = _pairs(confidence, right)
    table = pd.DataFrame({"confidence": sure, "right": correct, "bin": _bin_numbers(sure, bins)})
    grouped = table.groupby("bin")
    return pd.DataFrame(
        {
            "low": grouped["confidence"].min(),
            "high": grouped["confidence"].max(),
            "queries": grouped.size(),
            "confidence": grouped["confidence"].mean(),
            "accuracy": grouped["right"].mean(),
        }
    ).reset_index(drop=True)


def expected_calibration_error(
    confidence: Values, right: Values, *, bins: int = 10, samples: int = 10_000, seed: int
) -> dict[str, Any]:
    """How far confidence and accuracy are apart: the mean over `reliability_bins`, weighted by their answers.

    Naeini et al., AAAI 2015, with the bins of `reliability_bins`. Chance alone keeps a bin from a gap of 0, so the
    error of a calibrated reader is above 0, and resampling adds as much chance again: a percentile interval would
    never hold the truth there. So the interval reaches as far below the error as its resamples reach above it, and
    to 0 where one calibrated reader in forty would show as large an error (consistency resampling, Bröcker and Smith,
    2007). In simulations it held the truth 91 to 99 % of the time.

    Args:
        confidence, right, bins: as in `reliability_bins`.
        samples: resamples of answers, at least 1; they fall into the bins of the data.
        seed: of numpy's Generator.
    Returns:
        {"mean": the error, 0 to 1, "ci95": [low, high]}; one answer alone has the interval 0 to 1.
    Raises:
        ValueError: as in `reliability_bins`.
    """
    sure, correct = _pairs(confidence, right)
    count = len(sure)
    numbers = _bin_numbers(sure, bins)
    of_bin = np.eye(int(numbers.max()) + 1)[numbers]  # (answers, bins): 1 where the answer is in the bin
    error = float(np.abs((correct - sure) @ of_bin).sum() / count)
    if count == 1:
        return {"mean": error, "ci95": [0.0, 1.0]}
    rng = np.random.default_rng(seed)
    resampled = np.abs(resampled_means((correct - sure)[:, None] * of_bin, samples, rng)).sum(axis=1)
    high = max(error, float(np.quantile(resampled, 0.975)))
    chance = float(np.quantile(_errors_of_calibrated(sure, of_bin, samples, rng), 0.975))
    low = 0.0 if error <= chance else max(0.0, 2 * error - high)
    return {"mean": error, "ci95": [low, min(1.0, high)]}


def _errors_of_calibrated(
    confidence: npt.NDArray[np.float64], of_bin: npt.NDArray[np.float64], samples: int, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Calibration errors that chance gives a reader that is right exactly as often as its confidence says."""
    count = len(confidence)
    errors = np.empty(samples)
    block = max(1, BLOCK // count)
    for start in range(0, samples, block):
        size = min(block, samples - start)
        gaps = (rng.random((size, count)) < confidence) - confidence
        errors[start : start + size] = np.abs(gaps @ of_bin).sum(axis=1) / count
    return errors


def risk_coverage(confidence: Values, right: Values, *, queries: int | None = None) -> pd.DataFrame:
    """How often the answers are wrong if only those above a threshold are given (Geifman and El-Yaniv, 2017).

    Args:
        confidence: one number per answer, 0 to 1, at least one.
        right: 0 or 1 for each.
        queries: all questions, also those without answer; None takes the number of answers.
    Returns:
        threshold (the answers that score as much or more are given), coverage (share of `queries` answered), risk
        (share of wrong ones among the answers given); from the highest threshold to the lowest. Answers of one
        confidence come in one step: no threshold tells them apart.
    Raises:
        ValueError: as in `reliability_bins`, or fewer queries than answers.
    """
    sure, correct = _pairs(confidence, right)
    total = len(sure) if queries is None else queries
    if total < len(sure):
        raise ValueError(f"There are {len(sure)} answers to {total} queries; count the queries without answer too.")
    order = np.argsort(-sure, kind="stable")
    given = np.arange(1, len(sure) + 1)
    wrong = np.cumsum(1 - correct[order])
    steps = np.flatnonzero(np.append(np.diff(sure[order]) != 0, True))
    return pd.DataFrame(
        {"threshold": sure[order][steps], "coverage": given[steps] / total, "risk": wrong[steps] / given[steps]}
    )


def area_under_risk_coverage(curve: pd.DataFrame) -> float:
    """Mean risk over the coverages that a threshold can reach; 0 is perfect, and lower is better.

    Each answer counts with the risk of the step that brings it (Geifman et al., ICLR 2019, equation of the AURC, which
    leaves ties open), so it is the share of wrong answers where all have one confidence.

    Args:
        curve: as `risk_coverage` returns it.
    """
    widths = np.diff(curve["coverage"].to_numpy(dtype=float), prepend=0.0)
    return float(widths @ curve["risk"].to_numpy(dtype=float) / widths.sum())


def lowest_threshold(confidence: Values, right: Values, target_accuracy: float) -> float | None:
    """The lowest threshold from which on enough of the answers are right: the one that gives most answers.

    Args:
        confidence, right: as in `risk_coverage`.
        target_accuracy: share of right answers to be reached, 0 to 1.
    Returns:
        a confidence that occurs; 0 where all answers together reach the target; None where no threshold does.
    Raises:
        ValueError: as in `reliability_bins`, or a target outside of 0 to 1.
    """
    if not 0 <= target_accuracy <= 1:
        raise ValueError(f"target_accuracy is {target_accuracy}; it is a share of right answers, from 0 to 1.")
    curve = risk_coverage(confidence, right)
    reached = np.flatnonzero(1 - curve["risk"].to_numpy() >= target_accuracy - 1e-12)  # rounding is no failure
    if not len(reached):
        return None
    return 0.0 if reached[-1] == len(curve) - 1 else float(curve["threshold"].iloc[reached[-1]])


def _threshold(test: pd.DataFrame, dev: pd.DataFrame, target_accuracy: float) -> dict[str, Any] | None:
    confidence, right = _answered(dev, "dev")
    value = lowest_threshold(confidence, right, target_accuracy) if len(confidence) else None
    if value is None:
        return None
    told = {name: _told(*_answered(table, name), len(table), value) for name, table in (("dev", dev), ("test", test))}
    return {"target_accuracy": target_accuracy, "value": value, **told}


def _told(
    confidence: npt.NDArray[np.float64], right: npt.NDArray[np.float64], queries: int, threshold: float
) -> dict[str, Any]:
    given = confidence >= threshold
    return {
        "coverage": int(given.sum()) / queries,
        "accuracy": float(right[given].mean()) if given.any() else None,
    }


def _answered(table: pd.DataFrame, name: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Confidence and exact match of the answers that are not empty, both float64, ordered by query."""
    require_columns(table, name, ["query_id", "answer", "em", "score"])
    if table.empty:
        raise ValueError(f"Table {name} is empty, so there is nothing to calibrate. Read answers of that split first.")
    if doubles := repeated(table, ["query_id"]):
        raise ValueError(f"Table {name} repeats query {some(double[0] for double in doubles)}; keep one answer.")
    ordered = table.iloc[table["query_id"].astype(str).argsort(kind="stable").to_numpy()]
    given = ordered[ordered["answer"].fillna("").astype(str).str.strip() != ""]
    for column, valid in (("em", given["em"].isin([0, 1])), ("score", given["score"].between(0, 1))):
        if wrong := given.loc[~valid, "query_id"].tolist():
            expected = "0 or 1" if column == "em" else "a number from 0 to 1"
            raise ValueError(f"Table {name}: {column} is not {expected} for query {some(wrong)}.")
    return given["score"].to_numpy(dtype=np.float64), given["em"].to_numpy(dtype=np.float64)


def _pairs(confidence: Values, right: Values) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    sure, correct = scores(confidence), scores(right)
    if len(sure) != len(correct):
        raise ValueError(f"Each answer needs one confidence; got {len(sure)} for {len(correct)} answers.")
    return sure, correct


def _bin_numbers(confidence: npt.NDArray[np.float64], bins: int) -> npt.NDArray[np.int64]:
    """The bin of each answer, from 0; a number that is left out has no answers."""
    if bins < 1:
        raise ValueError(f"bins is {bins}; there must be at least one.")
    count = min(bins, max(1, len(confidence) // _LEAST_PER_BIN))
    edges = np.percentile(confidence, np.linspace(0, 1, count + 1)[1:-1] * 100)  # to the last bit as sklearn's
    return np.searchsorted(edges, confidence)
