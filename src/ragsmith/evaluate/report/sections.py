"""What each section of the report shows, ready for its template; None for a part that was not measured."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ragsmith.evaluate._checks import listed
from ragsmith.evaluate.figures import BUCKETS, judged_rows, rank_distribution
from ragsmith.evaluate.headline import metric_label
from ragsmith.evaluate.report.cells import id_list, plain
from ragsmith.evaluate.report.charts import Point, depth_chart, share_chart
from ragsmith.evaluate.report.detail import spread

# Key, name, and what it means; in the order in which they are drawn.
CATEGORIES = (
    ("retrieved_right", "right", "a right passage was read, and the answer is right"),
    ("missed_right", "right, unsupported", "the answer is right, though no right passage was read"),
    ("retrieved_wrong", "reader's error", "a right passage was read, and the answer is wrong"),
    ("missed_wrong", "retrieval's error", "no right passage was read, and the answer is wrong"),
    ("abstained", "no answer", "the reader gave none, or was not sure enough"),
)
CONDITIONS = {
    "retrieved": "what is served: the passages that search finds",
    "oracle": "only right passages: as if retrieval were perfect",
    "base_retrieved": "the passages that the untouched retriever finds",
    "reranked": "the passages that search finds, put in order by the cross-encoder",
    "closed_book": "no passages: what the reader knows by itself",
}
BOUNDS = (
    ("now", "now"),
    ("perfect_retrieval", "with perfect retrieval"),
    ("perfect_reader", "with a perfect reader"),
)
# Part of metrics.json: its name in the report, and how it comes there.
_PARTS = {
    "conditions": ("Answers by condition", "the evaluation did not read under several conditions"),
    "decomposition": ("Error decomposition", "it needs answers and the passages that were read"),
    "sweep": ("Number of passages", "the run did not measure at several depths"),
    "slices": ("Slices", "it needs answers and the documents of the test questions"),
    "calibration": ("Confidence", "it needs the reader's confidence in each answer"),
    "forgetting": ("Forgetting", "it needs a general test set in BEIR format"),
    "faithfulness": ("Faithfulness", "it needs an entailment model"),
    "judge": ("Language model as judge", "it needs a language model"),
    "against": ("Earlier version", "no earlier version of the outputs was named"),
}
_MOST_FACT, _MOST_SLICES, _MOST_HEAT, _MOST_RANKS = 1_000, 25, 40, 20


def run_facts(run: Mapping[str, Any], test_queries: int) -> list[tuple[str, list[tuple[str, str]]]]:
    """Facts about the run in groups: ("", facts at the top), then each nested mapping under its name."""
    groups: dict[str, list[tuple[str, str]]] = {"": []}
    if "test_questions" not in run:
        groups[""].append(("test_questions", f"{test_queries:,}"))
    for name, value in run.items():
        if isinstance(value, Mapping):
            groups.setdefault(fact(name), []).extend(_flatten(value))
        else:
            groups[""].append((fact(name), fact(value)))
    return list(groups.items())


def rank_stacks(per_query: pd.DataFrame) -> list[tuple[str, list[dict[str, Any]]]]:
    """For each system the segments of its bar: bucket, queries, start and width in percent."""
    if judged_rows(per_query).empty:
        return []
    shares = rank_distribution(per_query)
    stacks = []
    for system, table in shares.groupby("system", sort=False):
        starts = 100 * (table["share"].cumsum() - table["share"])
        rows = zip(table["bucket"], table["queries"], starts, 100 * table["share"], strict=True)
        stacks.append((str(system), [_segment(BUCKETS.index(bucket), bucket, *rest) for bucket, *rest in rows]))
    return stacks


def decomposition_view(part: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The bar of all questions by what became of them, the bounds, and exact match by rank."""
    if not part:
        return None
    total = max(sum(part["counts"].get(key, 0) for key, *_ in CATEGORIES), 1)
    by_rank = part.get("by_rank") or []
    segments, start = [], 0.0
    for style, (key, name, meaning) in enumerate(CATEGORIES):
        count = part["counts"].get(key, 0)
        segment = _segment(style, name, count, start, 100 * count / total)
        segments.append(segment | {"key": key, "meaning": meaning})
        start += segment["width"]
    return {
        "read": part["read"],
        "queries": part["queries"],
        "segments": segments,
        "bounds": [(label, part["bounds"][key]) for key, label in BOUNDS if part["bounds"].get(key)],
        "by_rank": [*by_rank[:_MOST_RANKS], *by_rank[_MOST_RANKS:][-1:]],  # the last is what was not read
    }


def sweep_view(part: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A chart for each kind of metric over depth, its lines being systems, and the reader's over what it reads."""
    if not part:
        return None
    retrieval, intervals = part.get("retrieval") or {}, part.get("retrieval_ci95") or {}
    kinds = list(dict.fromkeys(kind for by_kind in retrieval.values() for kind in by_kind))
    charts, tables = [], []
    for kind in kinds:
        depths = sorted({int(k) for by_kind in retrieval.values() for k in by_kind.get(kind, {})})
        ends = {system: intervals.get(system, {}).get(kind, {}) for system in retrieval}
        rows = [
            (system, [(by_kind.get(kind, {}).get(str(k)), ends[system].get(str(k))) for k in depths])
            for system, by_kind in retrieval.items()
        ]
        tables.append((metric_label(kind), {"depths": depths, "rows": rows}))
        series = {
            str(system): [Point(float(k), float(mean)) for k, mean in by_kind[kind].items() if mean is not None]
            for system, by_kind in retrieval.items()
            if by_kind.get(kind)
        }
        charts.append((metric_label(kind), depth_chart(series, metric_label(kind))))
    read = part.get("reader") or []
    reader = {
        metric_label(name): [Point(float(row["k"]), **_interval(row[name])) for row in read if row.get(name)]
        for name in ("em", "f1")
    }
    return {
        "systems": [str(system) for system in retrieval],
        "charts": charts,
        "tables": tables,
        "reader": depth_chart(reader, "mean") if read else None,
        "rows": read,
    }


def slices_view(part: Mapping[str, Any] | None, alpha: float = 0.05) -> dict[str, Any] | None:
    """Each dimension with its slices, and apart from them the worst of all.

    Slices with the lowest exact match come first, but those with too few questions to be judged last. Of the worst
    only those are told that chance does not explain (`worst`); the others are counted (`unsure`).
    """
    if not part:
        return None
    dimensions = []
    for dimension in part["dimensions"]:
        ordered = sorted(
            dimension["slices"], key=lambda entry: (entry["queries"] < part["min_queries"], _mean(entry.get("em")))
        )
        hidden = max(len(ordered) - _MOST_SLICES, 0)
        dimensions.append({"name": dimension["name"], "slices": ordered[:_MOST_SLICES], "hidden": hidden})
    worst = part.get("worst") or []
    shown = [entry for entry in worst if entry["p_holm"] < alpha]
    return {
        "min_queries": part["min_queries"],
        "dimensions": dimensions,
        "worst": [{**entry, "words": slice_words(entry["name"], entry["value"])} for entry in shown[:_MOST_SLICES]],
        "unsure": len(worst) - len(shown),
    }


def slice_words(name: str, value: str) -> list[str]:
    """A slice in words, and a pair of slices as two.

    >>> slice_words("question_word and source", "how and wiki"), slice_words("source", "this and that")
    (['question word: how', 'source: wiki'], ['source: this and that'])
    """
    names, values = name.split(" and "), value.split(" and ")
    if len(names) != len(values):  # a value may hold the word itself
        names, values = [name], [value]
    return [f"{one.replace('_', ' ')}: {of}" for one, of in zip(names, values, strict=True)]


def calibration_view(part: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The reliability chart, the risk-coverage chart, and what a threshold gives."""
    if not part:
        return None
    bins = [entry for entry in part["bins"] if entry["queries"] and entry["confidence"] is not None]
    curve = [entry for entry in part["risk_coverage"] if entry["risk"] is not None]
    return {
        "queries": part["queries"],
        "bins": bins,
        "ece": part["ece"],
        "aurc": part["aurc"],
        "threshold": part.get("threshold"),
        "reliability": share_chart(
            {"answers": [Point(entry["confidence"], entry["accuracy"]) for entry in bins]},
            "confidence",
            "share that is right",
            diagonal=True,
        ),
        "risk": share_chart(
            {"answers": [Point(entry["coverage"], entry["risk"]) for entry in curve]},
            "share of questions answered",
            "share of these that is wrong",
        ),
    }


def posterior_view(per_query: pd.DataFrame) -> dict[str, Any] | None:
    """How the reader's belief is divided among the passages that it read.

    Returns:
        None where the table has no posteriors; else `by_rank` (rank, mean posterior, questions that read so far
        down), `on_right` (mean belief on right passages where at least one was read, or None), `counted` (over how
        many questions), and `rows` of a heat map: query_id, query, cells (rank, percent, level 0 to 10, right), from
        the question on which the reader is surest down to where it is least sure; at most 40, spread evenly.
    """
    if "posteriors" not in per_query:
        return None
    ids = per_query["passage_ids"].map(id_list) if "passage_ids" in per_query else [[]] * len(per_query)
    rights = per_query["right_ids"].map(id_list) if "right_ids" in per_query else [[]] * len(per_query)
    rows = []
    for query_id, query, cell, passage_ids, right in zip(
        per_query["query_id"], per_query["query"], per_query["posteriors"], ids, rights, strict=True
    ):
        weights = [float(w) for w in listed(cell)]
        if weights and np.isfinite(weights).all():
            marks = [i in right for i in passage_ids] + [False] * len(weights)
            rows.append((plain(query_id), plain(query), weights, marks[: len(weights)]))
    if not rows:
        return None
    deepest = min(max(len(weights) for *_, weights, _ in rows), _MOST_RANKS)
    by_rank = []
    for rank in range(deepest):
        there = [weights[rank] for *_, weights, _ in rows if len(weights) > rank]
        by_rank.append({"rank": rank + 1, "mean": sum(there) / len(there), "queries": len(there)})
    on_right = [
        sum(w for w, right in zip(weights, marks, strict=True) if right) for *_, weights, marks in rows if any(marks)
    ]
    rows.sort(key=lambda row: -max(row[2]))
    return {
        "by_rank": by_rank,
        "on_right": sum(on_right) / len(on_right) if on_right else None,
        "counted": len(on_right),
        "total": len(rows),
        "depth": deepest,
        "rows": [_heat_row(*rows[place], deepest) for place in spread(len(rows), _MOST_HEAT)],
    }


def not_measured(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and reason of each part that this evaluation lacks."""
    return [names for part, names in _PARTS.items() if not metrics.get(part)]


def _heat_row(
    query_id: str, query: str, weights: Sequence[float], marks: Sequence[bool], depth: int
) -> dict[str, Any]:
    cells = [
        {"rank": rank, "percent": round(100 * w), "level": round(10 * min(max(w, 0.0), 1.0)), "right": right}
        for rank, (w, right) in enumerate(zip(weights[:depth], marks, strict=False), start=1)
    ]
    return {"query_id": query_id, "query": query[:200], "cells": cells, "empty": depth - len(cells)}


def _segment(style: int, name: str, queries: int, start: float, width: float) -> dict[str, Any]:
    return {"style": style, "name": name, "queries": queries, "start": start, "width": width}


def _interval(estimate: Mapping[str, Any]) -> dict[str, float]:
    return {"y": estimate["mean"], "low": estimate["ci95"][0], "high": estimate["ci95"][1]}


def _mean(estimate: Mapping[str, Any] | None) -> float:
    return float(estimate["mean"]) if estimate else float("inf")


def _flatten(facts: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """("reader.model", "…") for nested facts; lists joined by commas."""
    for key, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield fact(prefix + str(key)), fact(value)


def fact(value: Any) -> str:
    """A value of the run card as text of bounded length; lists joined by commas."""
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else plain(value)
    return text if len(text) <= _MOST_FACT else text[: _MOST_FACT - 1] + "…"
