"""Gather all figures of an evaluation in one JSON-safe dictionary, the content of metrics.json."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from ragsmith.evaluate._checks import repeated, require_columns, some
from ragsmith.evaluate.significance import (
    Values,
    bootstrap_interval,
    compare,
    correct_together,
    paired_differences,
    smallest_detectable_difference,
)


def summarise(
    retrieval: pd.DataFrame,
    answers: pd.DataFrame | None,
    pairs: Sequence[tuple[str, str]],
    run: Mapping[str, Any],
    *,
    samples: int = 10_000,
    seed: int,
) -> dict[str, Any]:
    """Summarise per-query scores as means with intervals, and compare systems.

    Args:
        retrieval: system, query_id, metric, value: `score_run` of each system, on the same queries and metrics.
        answers: query_id, em, f1, as `score_answers` returns them; None or empty when nothing was read.
        pairs: (a, b) systems to compare, b being the one hoped to be better. The first pair makes the headline.
        run: facts about this run (models, revision, date), passed through.
        samples: resamples of each interval and test.
        seed: of every interval and test; the same tables and seed give the same dictionary.
    Returns:
        retrieval: {system: {metric: {mean, ci95: [low, high]}}};
        comparisons: [{a, b, metric, difference, ci95, p, p_holm}], Holm's correction over the whole list;
        answers: {em: {mean, ci95}, f1: {mean, ci95}}, or {} without answers;
        run: as passed;
        queries: {test: count, smallest_detectable_difference: {metric: value}}, for the pair that needs the largest.
    Raises:
        ValueError: systems scored on different queries, a pair that names an unknown system, fewer than two queries,
            or a `run` that JSON cannot hold.
    """
    require_columns(retrieval, "retrieval", ["system", "query_id", "metric", "value"])
    systems = {str(name): table for name, table in retrieval.groupby("system", sort=False)}
    _check(retrieval, systems, pairs)

    def estimate(values: Values) -> dict[str, Any]:
        numbers = pd.Series(values)
        return {"mean": float(numbers.mean()), "ci95": list(bootstrap_interval(numbers, samples=samples, seed=seed))}

    compared = [
        comparison
        for a, b in pairs
        for comparison in compare(systems[a], systems[b], names=(a, b), samples=samples, seed=seed)
    ]
    # Sorted by query before resampling: the intervals must not depend on the order of rows.
    summary = {
        "retrieval": {
            name: {
                str(metric): estimate(values["value"])
                for metric, values in table.sort_values("query_id", kind="stable").groupby("metric", sort=False)
            }
            for name, table in systems.items()
        },
        "comparisons": [asdict(comparison) for comparison in correct_together(compared)],
        "answers": _summarise_answers(answers, estimate),
        "run": dict(run),
        "queries": {
            "test": int(retrieval["query_id"].nunique()),
            "smallest_detectable_difference": _detectable(systems, pairs),
        },
    }
    return _json_safe(summary)


def _summarise_answers(answers: pd.DataFrame | None, estimate: Callable[[Values], dict[str, Any]]) -> dict[str, Any]:
    if answers is None or answers.empty:
        return {}
    require_columns(answers, "answers", ["query_id", "em", "f1"])
    ordered = answers.sort_values("query_id", kind="stable")
    return {name: estimate(ordered[name]) for name in ("em", "f1")}


def _detectable(systems: Mapping[str, pd.DataFrame], pairs: Sequence[tuple[str, str]]) -> dict[str, float]:
    largest: dict[str, float] = {}
    for a, b in pairs:
        for metric, differences in paired_differences(systems[a], systems[b], names=(a, b)).items():
            largest[metric] = max(largest.get(metric, 0.0), smallest_detectable_difference(differences))
    return largest


def _check(retrieval: pd.DataFrame, systems: Mapping[str, pd.DataFrame], pairs: Sequence[tuple[str, str]]) -> None:
    if not systems:
        raise ValueError("The retrieval table is empty, so there is nothing to summarise. Score a run first.")
    if doubles := repeated(retrieval, ["system", "query_id", "metric"]):
        raise ValueError(f"The retrieval table repeats (system, query_id, metric) {some(doubles)}; keep one value.")
    if unknown := sorted({name for pair in pairs for name in pair} - set(systems)):
        raise ValueError(f"Cannot compare unknown system {some(unknown)}. Scored systems: {some(systems, limit=20)}.")
    first = next(iter(systems))
    for name, table in systems.items():  # also those in no pair: their means stand in one table
        paired_differences(systems[first], table, names=(first, name))


def _json_safe(summary: dict[str, Any]) -> dict[str, Any]:
    """A copy as JSON gives it back: lists for tuples, and nothing shared with the caller's dictionaries."""
    try:
        copied: dict[str, Any] = json.loads(json.dumps(summary, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"metrics.json cannot hold this: {error}. Pass str, int, float, list and dict.") from error
    return copied
