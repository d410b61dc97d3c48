"""Score the slices of the questions, and find those that are answered worst."""

from collections import Counter
from collections.abc import Mapping
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from ragsmith.evaluate._checks import repeated, require_columns, some
from ragsmith.evaluate._resampling import exact_means
from ragsmith.evaluate.estimate import estimate, scores
from ragsmith.evaluate.group_differences import group_intervals, group_permutation_tests
from ragsmith.evaluate.question_kinds import OTHER
from ragsmith.evaluate.significance import holm
from ragsmith.evaluate.slice_columns import DIMENSIONS

_MOST_WORST = 20  # slices told; of more, nobody reads the last


class _Slice(NamedTuple):
    name: str
    value: str
    inside: npt.NDArray[np.bool_]
    parts: tuple[npt.NDArray[np.bool_], ...] = ()


def summarise_slices(
    per_query: pd.DataFrame,
    metrics: Mapping[str, str],
    *,
    min_queries: int = 30,
    samples: int = 10_000,
    seed: int,
) -> dict[str, Any]:
    """Score every slice, and compare those with enough queries with all other queries.

    Each slice with at least `min_queries` inside and outside is tested on each metric, and then pairs of two of them
    from different dimensions, the largest first, until there are samples / 50 tests: no p-value is below
    1 / (samples + 1), so that Holm's correction for many more would leave nothing below .05, whatever the data. Size
    chooses the pairs, not the score, so that the p-values stay valid.

    Args:
        per_query: query_id, slice_<dimension> (str), and the columns that `metrics` names.
        metrics: {name in the result: column with scores from 0 to 1}, such as {"ndcg@10": "ndcg@10_hybrid"}.
        min_queries: least number of queries of a slice that is compared, at least 2.
        samples: of intervals and tests.
        seed: of intervals and tests.
    Returns:
        min_queries; tested: how many comparisons Holm's correction covers;
        dimensions: [{name, slices: [{value, queries, <metric>: {mean, ci95}}]}], also of the smallest slices;
        worst: [{name, value, queries, metric, mean, rest (mean of all other queries), difference, ci95, p, p_holm}]:
        slices below the rest, by p_holm and then by difference, at most 20. The name of a pair is "question_word and
        answer_type", its value "how and phrase"; it is told only where it is worse than both of its slices.
    Raises:
        ValueError: a column is missing, no column begins with slice_, no rows, a query twice, a score that is missing
            or outside of 0 to 1, or a `min_queries` below 2.
    """
    columns = [column for column in per_query.columns if column.startswith("slice_")]
    _check_slices(per_query, columns, metrics, min_queries)
    # Sorted by query: the results must not depend on the order of rows.
    table = per_query.iloc[per_query["query_id"].astype(str).argsort(kind="stable").to_numpy()]
    values = {name: scores(table[column]) for name, column in metrics.items()}
    names = [column.removeprefix("slice_") for column in columns]
    slices = {name: _slices_of(table[f"slice_{name}"].fillna(OTHER).astype(str), name) for name in names}
    dimensions = [
        {
            "name": name,
            "slices": [
                {"value": entry.value, "queries": int(entry.inside.sum())}
                | {metric: estimate(v[entry.inside], samples=samples, seed=seed) for metric, v in values.items()}
                for entry in entries
            ],
        }
        for name, entries in slices.items()
    ]
    singles = [entry for entries in slices.values() for entry in entries if _large(entry.inside, min_queries)]
    room = max(0, samples // 50 // len(metrics) - len(singles))
    tested = [*singles, *_pairs(singles, min_queries)[:room]]
    return {
        "min_queries": min_queries,
        "tested": len(tested) * len(metrics),
        "dimensions": dimensions,
        "worst": _worst(tested, values, samples, seed) if tested else [],
    }


def _worst(
    tested: list[_Slice], values: Mapping[str, npt.NDArray[np.float64]], samples: int, seed: int
) -> list[dict[str, Any]]:
    """The slices below the rest, the most certain first; see `summarise_slices`."""
    matrix, metrics = np.column_stack(list(values.values())), list(values)
    inside = np.stack([entry.inside for entry in tested])
    mean, rest = (np.stack([exact_means(matrix[mask]) for mask in masks]) for masks in (inside, ~inside))
    p = group_permutation_tests(matrix, inside, samples=samples, seed=seed)
    p_holm = np.reshape(holm(p.ravel().tolist()), p.shape)
    # A pair adds nothing to what its slices say unless it is worse than both.
    least = np.stack([np.min([exact_means(matrix[part]) for part in [~e.inside, *e.parts]], axis=0) for e in tested])
    below = zip(*np.nonzero(mean < least - 1e-12), strict=True)  # means that are equal up to rounding are equal
    told = sorted(below, key=lambda place: (p_holm[place], (mean - rest)[place]))[:_MOST_WORST]
    rows = sorted({row for row, _ in told})
    intervals = dict(zip(rows, group_intervals(matrix, inside[rows], samples=samples, seed=seed), strict=True))
    return [
        {
            "name": tested[row].name,
            "value": tested[row].value,
            "queries": int(inside[row].sum()),
            "metric": metrics[column],
            "mean": float(mean[row, column]),
            "rest": float(rest[row, column]),
            "difference": float(mean[row, column] - rest[row, column]),
            "ci95": intervals[row][column].tolist(),
            "p": float(p[row, column]),
            "p_holm": float(p_holm[row, column]),
        }
        for row, column in told
    ]


def _slices_of(column: pd.Series, name: str) -> list[_Slice]:
    """The slices of one dimension, in its own order, and whatever else there is by size."""
    counts = Counter(column)
    known = [value for value in DIMENSIONS.get(name, ()) if value in counts]
    others = sorted(set(counts) - set(known), key=lambda value: (-counts[value], value))
    values = column.to_numpy(dtype=object)
    return [_Slice(name, value, np.asarray(values == value, dtype=bool)) for value in [*known, *others]]


def _pairs(singles: list[_Slice], min_queries: int) -> list[_Slice]:
    """Pairs of slices of two dimensions, large enough and clearly smaller than either; the largest first."""
    pairs = []
    for a, b in combinations(singles, 2):
        both = a.inside & b.inside
        smaller = both.sum() <= 0.9 * min(a.inside.sum(), b.inside.sum())
        if a.name != b.name and smaller and _large(both, min_queries):
            pairs.append(_Slice(f"{a.name} and {b.name}", f"{a.value} and {b.value}", both, (a.inside, b.inside)))
    return sorted(pairs, key=lambda pair: (-int(pair.inside.sum()), pair.name, pair.value))


def _large(inside: npt.NDArray[np.bool_], min_queries: int) -> bool:
    count = int(inside.sum())
    return min(count, len(inside) - count) >= min_queries


def _check_slices(per_query: pd.DataFrame, columns: list[str], metrics: Mapping[str, str], min_queries: int) -> None:
    require_columns(per_query, "per_query", ["query_id", *metrics.values()])
    if not columns or not metrics or per_query.empty:
        raise ValueError(
            "Slices need at least one query, one metric and one column named slice_<dimension>; join what "
            "slice_columns returns to the per_query table."
        )
    if doubles := repeated(per_query, ["query_id"]):
        raise ValueError(f"The per_query table repeats query {some(double[0] for double in doubles)}; keep one row.")
    if min_queries < 2:
        raise ValueError(f"min_queries is {min_queries}; a slice that is compared needs at least 2 queries.")
