"""The gate: which weights ship is decided on dev, the untouched model included."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Candidate:
    """One row of the gate's table.

    Attributes:
        name: base, last, best or average (half base, half best; as in LM-Cocktail, Xiao et al. 2023).
        score: on dev.
        shipped: exactly one is.
        reason: why it ships or not.
    """

    name: str
    score: float
    shipped: bool
    reason: str


class UntrainedModel(RuntimeError):
    """Training left the weights as they were."""


def choose(scores: dict[str, float], metric: str) -> list[Candidate]:
    """The candidate with the highest dev score ships; at a tie the one named first, and base before all.

    Args:
        scores: by name, `base` among them.
        metric: for the reason.
    """
    base = scores["base"]
    best = max(scores, key=lambda name: scores[name])
    shipped = best if scores[best] > base else "base"
    candidates = []
    for name, score in scores.items():
        if name == shipped:
            gain = "nothing beat the model it started from" if name == "base" else f"{score - base:+.4f} over base"
            reason = f"highest dev {metric}: {gain}"
        else:
            reason = f"{score - scores[shipped]:+.4f} against {shipped}"
        candidates.append(Candidate(name, score, name == shipped, reason))
    return candidates


def gate(
    base: "Weights",
    last: "Weights",
    best: "Weights | None",
    score: "Callable[[Weights], float]",
    metric: str,
    known: dict[str, float] | None = None,
) -> "tuple[Weights, list[dict[str, object]]]":
    """Score base, last, best and their average on dev, and say which ships.

    Args:
        base: before training.
        last: after the last step.
        best: at the best evaluation; None when none beat the base.
        score: the dev score of given weights.
        metric: its name.
        known: dev scores that training has found already, by name; these are not computed again.
    Returns:
        The weights that ship, and the table: name, <metric>, shipped, reason.
    Raises:
        UntrainedModel: last equals base: nothing was trained.
    """
    if same_weights(base, last):
        raise UntrainedModel(
            "The weights after training equal those before: nothing was learned. "
            "Check learning_rate and that the training queries are not empty."
        )
    weights = {"best": best, "average": average(base, best if best is not None else last), "last": last, "base": base}
    present = {name: tensors for name, tensors in weights.items() if tensors is not None}
    scores = dict(known or {})
    if best is not None and same_weights(best, last) and not {"best", "last"} & scores.keys():
        scores["best"] = scores["last"] = score(best)  # the last evaluation was the best one
    candidates = choose(
        {name: scores[name] if name in scores else score(tensors) for name, tensors in present.items()}, metric
    )
    shipped = next(candidate.name for candidate in candidates if candidate.shipped)
    table = [
        {"name": candidate.name, metric: candidate.score, "shipped": candidate.shipped, "reason": candidate.reason}
        for candidate in candidates
    ]
    return present[shipped], table


def with_original(table: "list[dict[str, object]]", score: float, metric: str) -> "list[dict[str, object]]":
    """The gate's table with one more row, `original`: the model before its pooling or its prompts were changed.

    Args:
        table: from `gate`.
        score: the original's on dev. At a tie it ships, as base does before what was tuned.
        metric: the name of the score.
    """
    scores = {str(row["name"]): float(str(row[metric])) for row in table}
    shipped = next(str(row["name"]) for row in table if row["shipped"])
    row: dict[str, object] = {"name": "original", metric: score, "shipped": score >= scores[shipped]}
    if not row["shipped"]:
        return [*table, {**row, "reason": f"{score - scores[shipped]:+.4f} against {shipped}"}]
    others = [
        {**other, "shipped": False, "reason": f"{scores[str(other['name'])] - score:+.4f} against original"}
        for other in table
    ]
    reason = f"highest dev {metric}: nothing beat the model as it was before its pooling or prompts were changed"
    return [*others, {**row, "reason": reason}]


def same_weights(one: "Weights", other: "Weights") -> bool:
    """Whether all are equal."""
    return all(bool((other[name] == tensor).all()) for name, tensor in one.items())


def average(one: "Weights", other: "Weights") -> "Weights":
    """Half of each; whole numbers (position ids) as they are."""
    return {
        name: (tensor + other[name]) / 2 if tensor.is_floating_point() else tensor.clone()
        for name, tensor in one.items()
    }
