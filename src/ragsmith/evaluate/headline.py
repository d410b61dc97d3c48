"""Say in plain sentences what an evaluation found."""

from collections.abc import Mapping
from typing import Any

_LABELS = {"ndcg": "nDCG", "mrr": "MRR", "recall": "Recall", "precision": "Precision", "map": "MAP", "hit": "Hit",
           "answer_recall": "Answer recall", "em": "EM", "f1": "F1", "bleu": "BLEU", "rouge1": "ROUGE-1",
           "rouge2": "ROUGE-2", "rougeL": "ROUGE-L"}  # fmt: skip


def metric_label(metric: str) -> str:
    """A metric's name as people write it.

    >>> metric_label("ndcg@10"), metric_label("em")
    ('nDCG@10', 'EM')
    """
    kind, at, depth = metric.partition("@")
    return _LABELS.get(kind, kind) + at + depth


def format_p(p: float) -> str:
    """A p-value to three digits.

    >>> format_p(0.0301), format_p(0.0001)
    ('= 0.030', '< 0.001')
    """
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def percent(share: float) -> str:
    """A share as people say it.

    >>> percent(0.4076)
    '40.8 %'
    """
    return f"{100 * share:.1f} %"


def headline(metrics: Mapping[str, Any], metric: str = "ndcg@10", alpha: float = 0.05) -> str:
    """What `retrieval_headline` and `answers_headline` say, as one text."""
    return f"{retrieval_headline(metrics, metric, alpha)} {answers_headline(metrics)}".strip()


def retrieval_headline(metrics: Mapping[str, Any], metric: str = "ndcg@10", alpha: float = 0.05) -> str:
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


def answers_headline(metrics: Mapping[str, Any]) -> str:
    """Tell how many questions are answered, and whether retrieval or the reader holds the rest back.

    The one that would gain more if it were perfect holds it back more. That is said only where the intervals of both
    bounds are apart: they come from the same questions, so this asks for more than a paired test would.

    Args:
        metrics: as `summarise` returns them; `decomposition` may be missing.
    Returns:
        up to two sentences, empty where nothing was read.
    """
    if not metrics.get("answers"):
        return ""
    em = metrics["answers"]["em"]
    low, high = em["ci95"]
    answered = f"{percent(em['mean'])} of the questions are answered exactly right (95 % interval {percent(low)} to "
    return f"{answered}{percent(high)}). {_holds_back(metrics.get('decomposition'))}".strip()


def _holds_back(decomposition: Mapping[str, Any] | None) -> str:
    if not decomposition:
        return ""
    counts, bounds = decomposition["counts"], decomposition["bounds"]
    if bounds.get("perfect_retrieval") is None:
        return (
            f"Of the wrong answers, {counts['missed_wrong']:,} lacked a right passage (retrieval) and "
            f"{counts['retrieved_wrong']:,} had one (the reader)."
        )
    retrieval, reader = bounds["perfect_retrieval"], bounds["perfect_reader"]
    evidence = (
        f"perfect retrieval would give {percent(retrieval['mean'])}, a perfect reader {percent(reader['mean'])}."
    )
    if retrieval["ci95"][0] > reader["ci95"][1]:
        return f"Retrieval holds back more: {evidence}"
    if reader["ci95"][0] > retrieval["ci95"][1]:
        return f"The reader holds back more: {evidence}"
    return f"Retrieval and the reader hold back about as much: {evidence}"
