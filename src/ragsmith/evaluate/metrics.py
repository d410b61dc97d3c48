"""Gather all figures of an evaluation in one JSON-safe dictionary, the content of metrics.json."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from ragsmith.evaluate._checks import json_safe, repeated, require_columns, some
from ragsmith.evaluate.answers import COLUMNS
from ragsmith.evaluate.significance import (
    compare_columns,
    estimates,
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
        answers: query_id, em, f1, and where they are there bleu, rouge1, rouge2, rougeL, as `score_answers` returns
            them; None or empty when nothing was read.
        pairs: (a, b) systems to compare, b being the one hoped to be better. The first pair makes the headline.
        run: facts about this run (models, revision, date), passed through.
        samples: resamples of each interval and test.
        seed: of every interval and test; the same tables and seed give the same dictionary.
    Returns:
        retrieval: {system: {metric: {mean, ci95: [low, high]}}};
        comparisons: [{a, b, metric, difference, ci95, p, p_holm}], Holm's correction over the whole list;
        answers: {em: {mean, ci95}, f1: {mean, ci95}, …}, or {} without answers;
        run: as passed;
        queries: {test: count, smallest_detectable_difference: {metric: value}}, for the pair that needs the largest.
    Raises:
        ValueError: systems scored on different queries, a value that is NaN or there twice, a pair that names an
            unknown system, fewer than two queries, or a `run` that JSON cannot hold.
    """
    require_columns(retrieval, "retrieval", ["system", "query_id", "metric", "value"])
    _check(retrieval, pairs)
    scores = _widen(retrieval)
    systems = list(dict.fromkeys(scores.columns.get_level_values("system")))
    measured = estimates(scores, samples=samples, seed=seed)
    differences = _subtract(scores, pairs)
    compared = compare_columns(differences, list(differences.columns), samples=samples, seed=seed)
    summary = {
        "retrieval": {
            system: {str(metric): measured[system, metric] for metric in scores[system].columns} for system in systems
        },
        "comparisons": [asdict(comparison) for comparison in compared],
        "answers": _summarise_answers(answers, samples, seed),
        "run": dict(run),
        "queries": {
            "test": int(retrieval["query_id"].nunique()),
            "smallest_detectable_difference": _detectable(differences),
        },
    }
    return json_safe(summary)


def _summarise_answers(answers: pd.DataFrame | None, samples: int, seed: int) -> dict[str, Any]:
    if answers is None or answers.empty:
        return {}
    require_columns(answers, "answers", ["query_id", "em", "f1"])
    if doubles := repeated(answers, ["query_id"]):
        raise ValueError(f"The answer scores repeat query {some(double[0] for double in doubles)}; keep one row each.")
    ordered = answers.sort_values("query_id", kind="stable")
    return estimates(ordered[[name for name in COLUMNS if name in ordered]], samples=samples, seed=seed)


def _detectable(differences: pd.DataFrame) -> dict[str, float]:
    largest: dict[str, float] = {}
    for (_, _, metric), values in differences.items():
        largest[metric] = max(largest.get(metric, 0.0), smallest_detectable_difference(values))
    return largest


def _widen(retrieval: pd.DataFrame) -> pd.DataFrame:
    """A row per query, a column per (system, metric) as they first appear.

    Rows are sorted by query: the intervals must not depend on the order of rows.
    """
    columns = ["system", "metric"]
    order = pd.MultiIndex.from_frame(retrieval[columns].drop_duplicates())
    return retrieval.pivot(index="query_id", columns=columns, values="value").sort_index()[order]


def _subtract(scores: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Values of b minus those of a: a row per query, a column per (a, b, metric)."""
    if not pairs:
        return pd.DataFrame(index=scores.index)
    return pd.concat({(a, b): scores[b][scores[a].columns] - scores[a] for a, b in pairs}, axis=1)


def _check(retrieval: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> None:
    if retrieval.empty:
        raise ValueError("The retrieval table is empty, so there is nothing to summarise. Score a run first.")
    if doubles := repeated(retrieval, ["system", "query_id", "metric"]):
        raise ValueError(f"The retrieval table repeats (system, query_id, metric) {some(doubles)}; keep one value.")
    scored = retrieval["system"].unique().tolist()
    if unknown := sorted({name for pair in pairs for name in pair} - set(scored)):
        raise ValueError(f"Cannot compare unknown system {some(unknown)}. Scored systems: {some(scored, limit=20)}.")
    if len(retrieval) == len(scored) * retrieval["query_id"].nunique() * retrieval["metric"].nunique():
        return
    systems = {str(name): table for name, table in retrieval.groupby("system", sort=False)}
    first = next(iter(systems))
    for name, table in systems.items():  # also those in no pair: their means stand in one table
        paired_differences(systems[first], table, names=(first, name))
    counts = retrieval.groupby("metric", sort=False)["query_id"].nunique()
    raise ValueError(
        f"The metrics were not scored on the same queries: {counts.idxmax()} on {counts.max()}, {counts.idxmin()} on "
        f"{counts.min()}. Score all metrics with the same qrels."
    )
