"""Say in one plain sentence what an evaluation found."""

from collections.abc import Mapping
from typing import Any

_LABELS = {"ndcg": "nDCG", "mrr": "MRR", "recall": "Recall", "precision": "Precision", "map": "MAP", "hit": "Hit"}


def metric_label(metric: str) -> str:
    """A metric's name as people write it.

    >>> metric_label("ndcg@10")
    'nDCG@10'
    """
    kind, at, depth = metric.partition("@")
    return _LABELS.get(kind, kind) + at + depth


def format_p(p: float) -> str:
    """A p-value to three digits.

    >>> format_p(0.0301), format_p(0.0001)
    ('= 0.030', '< 0.001')
    """
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def headline(metrics: Mapping[str, Any], metric: str = "ndcg@10", alpha: float = 0.05) -> str:
    """Tell whether the second system of the first pair is better, by how much, and whether that is real.

    Args:
        metrics: as `summarise` returns them.
        metric: the one to speak of; the first compared one where it is missing.
        alpha: a difference is called real where its p_holm is below.
    Returns:
        one or two sentences. A difference that is not shown is never called "no difference": the sentence says what
        size of difference the test set would have shown.
    """
    comparisons = metrics["comparisons"]
    count = metrics["queries"]["test"]
    if not comparisons:
        return f"No two systems were compared on these {count:,} queries, so nothing is said about which is better."
    pair = [entry for entry in comparisons if (entry["a"], entry["b"]) == (comparisons[0]["a"], comparisons[0]["b"])]
    best = next((entry for entry in pair if entry["metric"] == metric), pair[0])
    a, b, name = best["a"], best["b"], best["metric"]
    before, after = (metrics["retrieval"][system][name]["mean"] for system in (a, b))
    low, high = best["ci95"]
    evidence = (
        f"{metric_label(name)} went from {before:.3f} to {after:.3f} on {count:,} test queries "
        f"({best['difference']:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}, "
        f"Holm-corrected p {format_p(best['p_holm'])})."
    )
    if best["p_holm"] < alpha:
        verdict = "ranks better" if best["difference"] > 0 else "ranks worse"
        return f"{b} {verdict} than {a}, and chance alone is an unlikely explanation: {evidence}"
    detectable = metrics["queries"]["smallest_detectable_difference"][name]
    return (
        f"No difference between {b} and {a} is shown: {evidence} "
        f"This test set shows differences from about {detectable:.3f} upwards."
    )
