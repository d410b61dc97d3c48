"""What differs between two versions of an evaluation's outputs, and whether that is more than chance."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ragsmith.evaluate._checks import json_safe, some
from ragsmith.evaluate.answers import COLUMNS as ANSWER_METRICS
from ragsmith.evaluate.saved_version import RANK, SavedVersion, split_system
from ragsmith.evaluate.significance import Comparison, compare, correct_together

# Of each system. Each further one makes Holm's correction stricter for all; others can be asked for by name.
USUAL = ("ndcg@10", "mrr@10", "hit@10")
ALPHA = 0.05
_FROM_RANK = re.compile(r"(mrr|hit)@([1-9][0-9]{0,5})")
_MOST_CHARACTERS = 500


def compare_versions(
    a: SavedVersion,
    b: SavedVersion,
    samples: int = 10_000,
    seed: int = 0,
    metrics: Sequence[str] = (),
    limit: int | None = None,
) -> dict[str, Any]:
    """Compare two versions question by question; b is the later one, or the one hoped to be better.

    Questions count as the same where id and text are equal. The others are left out of every figure, and counted. A
    metric of retrieval is compared on those that are judged in both.

    Args:
        a, b: as `read_version` gives them.
        samples: of bootstrap and permutation test.
        seed: of both.
        metrics: which to compare, such as `em`, `ndcg@10` (of every system) or `mrr@5_tuned` (of one); none takes the
            answers' and nDCG@10, MRR@10 and hit@10 of each system, as far as both versions have them.
        limit: most questions in each of the lists won, lost and tied; None lists all.
    Returns:
        a, b: their names;
        queries: {a, b, both, only_a, only_b, changed_text}, counts;
        comparisons: [{a, b, system (empty: answers), metric, mean_a, mean_b, difference, ci95, p, p_holm}], Holm's
            correction over the whole list;
        outcomes: {won, lost, tied: {queries: count, rows: [{query_id, query, answer_a, answer_b, em_a, em_b, f1_a,
            f1_b}], largest change first}}: won where b has the higher EM, or equal EM and the higher F1. Texts are cut
            at 500 characters;
        run: [{key, a, b}], what differs in the two run cards, None where it is missing; keys joined by dots.
        JSON can hold it.
    Raises:
        ValueError: fewer than two questions are the same, or a metric is unknown; the text says which there are.
    """
    left, right, counts = _paired(a, b)
    names = _columns(left, right, metrics)
    scored = [_scored_in_both(left, right, name) for name in names]
    if metrics and (bare := [name for name, both in zip(names, scored, strict=True) if both.sum() < 2]):
        raise ValueError(f"Fewer than two questions are judged in both versions: there is no {some(bare)} to compare.")
    names = [name for name, both in zip(names, scored, strict=True) if both.sum() > 1]
    scored = [both for both in scored if both.sum() > 1]
    comparisons: dict[str, Comparison] = {}
    # Metrics of the same questions go together: they share the resamples.
    for those in {both.tobytes(): both for both in scored}.values():
        together = [name for name, both in zip(names, scored, strict=True) if (both == those).all()]
        tables = (_long(table[those], together) for table in (left, right))
        found = compare(*tables, names=(a.name, b.name), samples=samples, seed=seed)
        comparisons |= dict(zip(together, found, strict=True))
    rows = []
    corrected = correct_together([comparisons[name] for name in names])
    for name, both, comparison in zip(names, scored, corrected, strict=True):
        metric, system = split_system(name) or (name, "")
        means = {
            "mean_a": float(_scores(left, name)[both].mean()),
            "mean_b": float(_scores(right, name)[both].mean()),
        }
        rows.append({**asdict(comparison), "system": system, "metric": metric, **means})
    result = {
        "a": a.name,
        "b": b.name,
        "queries": counts,
        "comparisons": rows,
        "outcomes": _outcomes(left, right, limit),
        "run": _changes(a.metrics.get("run", {}), b.metrics.get("run", {})),
    }
    return json_safe(result)


def significantly_worse(
    a: SavedVersion, b: SavedVersion, metrics: Sequence[str], samples: int = 10_000, seed: int = 0
) -> list[dict[str, Any]]:
    """In which of these metrics b is worse than a, chance alone being an unlikely explanation (p_holm below .05).

    The metrics were chosen before anything was seen, so they are a family of their own: Holm's correction is over
    them alone, and not over all that a table shows.

    Args:
        a, b, samples, seed: as in `compare_versions`.
        metrics: as there; none gives an empty list.
    Returns:
        rows as in `comparisons` of `compare_versions`.
    Raises:
        ValueError: as `compare_versions`.
    """
    if not metrics:
        return []
    rows = compare_versions(a, b, samples, seed, metrics, limit=0)["comparisons"]
    return [row for row in rows if row["difference"] < 0 and row["p_holm"] < ALPHA]


def _paired(a: SavedVersion, b: SavedVersion) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, int]]:
    """Rows of the questions that both have, by query_id in the same order, and how many there are."""
    left, right = (version.per_query.set_index("query_id").sort_index() for version in (a, b))
    shared = left.index.intersection(right.index).sort_values()
    same = shared[(left.loc[shared, "query"] == right.loc[shared, "query"]).to_numpy()]
    counts = {
        "a": len(left),
        "b": len(right),
        "both": len(same),
        "only_a": len(left) - len(shared),
        "only_b": len(right) - len(shared),
        "changed_text": len(shared) - len(same),
    }
    if len(same) < 2:
        raise ValueError(
            f"{a.name} and {b.name} cannot be compared: of {len(left)} and {len(right)} questions {len(shared)} have "
            f"the same id, and {len(same)} the same text as well; at least two are needed. Evaluate both on the same "
            "questions."
        )
    return left.loc[same], right.loc[same], counts


def _columns(left: pd.DataFrame, right: pd.DataFrame, wanted: Sequence[str]) -> list[str]:
    """Names of the scores to compare: of answers first, then system by system."""
    shared = [name for name in left if name in right]
    answers = [name for name in ANSWER_METRICS if name in shared]
    stored = {name: parts for name in shared if (parts := split_system(name))}
    ranked = [name.removeprefix(RANK) for name in shared if name.startswith(RANK)]
    systems = list(dict.fromkeys([*(system for _, system in stored.values()), *ranked]))

    def has(metric: str, system: str) -> bool:
        return f"{metric}_{system}" in stored or (system in ranked and _FROM_RANK.fullmatch(metric) is not None)

    if not wanted:
        return answers + [f"{metric}_{system}" for system in systems for metric in USUAL if has(metric, system)]
    chosen: list[str] = []
    for name in wanted:
        metric, system = split_system(name) or (name, "")
        of = [system] if system else systems
        found = [name] if name in answers else [f"{metric}_{one}" for one in of if has(metric, one)]
        if not found:
            kinds = dict.fromkeys(
                [*answers, *(kind for kind, _ in stored.values()), *(["mrr@k", "hit@k"] * bool(ranked))]
            )
            raise ValueError(
                f"{name!r} is no metric of both versions. There are: {some(kinds, 30)}; one with @k is of every "
                f"system, or with _<system> of one: {some(systems, 20)}."
            )
        chosen += found
    return list(dict.fromkeys(chosen))


def _scores(table: pd.DataFrame, name: str) -> pd.Series:
    """One score per question: as it is stored, or from the rank of the first right passage; missing unless judged."""
    if name in table:
        return table[name].astype("float64")
    metric, system = split_system(name) or ("", "")
    kind, _, depth = metric.partition("@")
    ranks = table[f"{RANK}{system}"].astype("Float64")
    found = (ranks <= int(depth)).fillna(False)
    values = 1 / ranks if kind == "mrr" else ranks * 0 + 1
    scores = values.where(found, 0.0).fillna(0.0).astype("float64")
    gain = f"ndcg@10_{system}"  # missing where nobody judged: the rank of nothing right is missing as well
    return scores.where(table[gain].notna()) if gain in table else scores


def _scored_in_both(left: pd.DataFrame, right: pd.DataFrame, name: str) -> npt.NDArray[np.bool_]:
    """Which of the questions, in their order, have this score in both versions."""
    return np.asarray(_scores(left, name).notna() & _scores(right, name).notna(), dtype=bool)


def _long(table: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    """query_id, metric, value: as `compare` takes it."""
    parts = [
        pd.DataFrame({"query_id": table.index, "metric": name, "value": _scores(table, name).to_numpy()})
        for name in names
    ]
    return pd.concat(parts, ignore_index=True)


def _outcomes(left: pd.DataFrame, right: pd.DataFrame, limit: int | None) -> dict[str, Any]:
    table = pd.DataFrame({"query_id": left.index, "query": _cut(left["query"])})
    table["answer_a"], table["answer_b"] = _cut(left["answer"]), _cut(right["answer"])
    for name in ("em", "f1"):
        table[f"{name}_a"], table[f"{name}_b"] = left[name].to_numpy(), right[name].to_numpy()
    em, f1 = table["em_b"] - table["em_a"], table["f1_b"] - table["f1_a"]
    sign = em.where(em != 0, f1)
    outcomes: dict[str, Any] = {}
    ordered = table.assign(em=em.abs(), f1=f1.abs()).sort_values(
        ["em", "f1", "query_id"], ascending=[False, False, True], kind="stable"
    )
    for name, those in (("won", sign > 0), ("lost", sign < 0), ("tied", sign == 0)):
        rows = ordered[those.loc[ordered.index]].drop(columns=["em", "f1"])
        shown = rows if limit is None else rows.head(limit)
        outcomes[name] = {"queries": len(rows), "rows": shown.to_dict("records")}
    return outcomes


def _cut(texts: pd.Series) -> list[str]:
    return [text[:_MOST_CHARACTERS] for text in texts]


def _changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Keys of two nested mappings whose values are not the same, sorted."""
    left, right = dict(_flat(a)), dict(_flat(b))
    return [
        {"key": key, "a": left.get(key), "b": right.get(key)}
        for key in sorted(left.keys() | right.keys())
        if left.get(key) != right.get(key) or (key in left) != (key in right)
    ]


def _flat(values: Mapping[str, Any], above: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
