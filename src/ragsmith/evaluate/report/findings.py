"""What a reader of the report should know first, as sentences that point to their section."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ragsmith.evaluate.headline import metric_label, percent
from ragsmith.evaluate.report.sections import slice_words


@dataclass(frozen=True)
class Tile:
    """One figure to see at a glance: what it is, its value, and what to hold against it."""

    label: str
    value: str
    note: str
    section: str


@dataclass(frozen=True)
class Finding:
    """One sentence, and the id of the section that shows it."""

    text: str
    section: str


def tiles(metrics: Mapping[str, Any]) -> list[Tile]:
    """Up to four figures that say where the system stands.

    Args:
        metrics: as `summarise` returns them; parts that are missing give no tile.
    """
    found = []
    if metrics["comparisons"]:
        first = next((c for c in metrics["comparisons"] if c["metric"] == "ndcg@10"), metrics["comparisons"][0])
        before, after = (metrics["retrieval"][first[key]][first["metric"]]["mean"] for key in ("a", "b"))
        name = metric_label(first["metric"])
        found.append(Tile(f"{name} of {first['b']}", f"{after:.3f}", f"{before:.3f} with {first['a']}", "retrieval"))
    decomposition = metrics.get("decomposition")
    if decomposition:
        bound = decomposition["bounds"]["perfect_reader"]
        note = f"among the {decomposition['read']} that are read"
        found.append(Tile("A right passage is found", percent(bound["mean"]), note, "errors"))
    if metrics.get("answers"):
        em = metrics["answers"]["em"]
        note = f"95 % interval {percent(em['ci95'][0])} to {percent(em['ci95'][1])}"
        found.append(Tile("Answered exactly right", percent(em["mean"]), note, "answers"))
    shipped = [candidate for candidate in metrics.get("gate") or [] if candidate["shipped"]]
    if shipped:
        found.append(Tile("What ships", str(shipped[0]["name"]), str(shipped[0]["reason"]), "gate"))
    return found


def findings(metrics: Mapping[str, Any], alpha: float = 0.05) -> list[Finding]:
    """What the other parts found, a sentence each.

    Args:
        metrics: as `summarise` returns them; parts that are missing or null are passed over.
        alpha: a difference is told as one where its p_holm is below.
    """
    return [
        *_errors(metrics.get("decomposition")),
        *_conditions(metrics.get("condition_comparisons") or [], alpha),
        *_slices(metrics.get("slices"), alpha),
        *_calibration(metrics.get("calibration")),
        *_forgetting(metrics.get("forgetting"), alpha),
    ]


def _errors(part: Mapping[str, Any] | None) -> Iterator[Finding]:
    if not part:
        return
    counts = part["counts"]
    right = counts["retrieved_right"] + counts["missed_right"]
    yield Finding(
        f"Of {part['queries']:,} questions {right:,} are answered right. {counts['missed_wrong']:,} fail because no "
        f"right passage is read, {counts['retrieved_wrong']:,} although one is; {counts['abstained'] or 'none'} get "
        "no answer.",
        "errors",
    )


def _conditions(comparisons: list[Mapping[str, Any]], alpha: float) -> Iterator[Finding]:
    for entry in comparisons:
        if entry["metric"] == "em" and {entry["a"], entry["b"]} == {"base_retrieved", "retrieved"}:
            sign = 1 if entry["b"] == "retrieved" else -1
            gain = sign * entry["difference"]
            if entry["p_holm"] < alpha:
                verb = "raises" if gain > 0 else "lowers"
                points = f"{100 * abs(gain):.1f} percentage points"
                text = (
                    f"Tuning the retriever {verb} the share of right answers by {points}, the reader being the same."
                )
            else:
                text = "That tuning the retriever changes the answers is not shown on this many questions."
            yield Finding(text, "answers")


def _slices(part: Mapping[str, Any] | None, alpha: float) -> Iterator[Finding]:
    worst = [entry for entry in (part or {}).get("worst", []) if entry["p_holm"] < alpha]
    if worst:
        least = worst[0]
        yield Finding(
            f"The weakest slice is {', '.join(slice_words(least['name'], least['value']))}. Its {least['queries']:,} "
            f"questions have {metric_label(least['metric'])} {least['mean']:.3f}, the others {least['rest']:.3f}.",
            "slices",
        )


def _calibration(part: Mapping[str, Any] | None) -> Iterator[Finding]:
    threshold = (part or {}).get("threshold")
    if threshold and threshold["test"]["accuracy"] is not None:
        right, covered = (percent(threshold["test"][key]) for key in ("accuracy", "coverage"))
        yield Finding(
            f"Answers with a confidence of at least {threshold['value']:.2f} are right in {right} of the cases; they "
            f"cover {covered} of the questions.",
            "calibration",
        )


def _forgetting(part: Mapping[str, Any] | None, alpha: float) -> Iterator[Finding]:
    if not part:
        return
    worse = [c for c in part["comparisons"] if c["p_holm"] < alpha and c["difference"] < 0]
    if worse:
        entry = worse[0]
        loss = f"{abs(entry['difference']):.3f} {metric_label(entry['metric'])}"
        text = f"On other texts ({part['probe']}) tuning costs {loss}."
    else:
        text = f"That tuning costs anything on other texts ({part['probe']}) is not shown."
    yield Finding(text, "forgetting")
