"""What lies behind the headline: where answers are lost, for which questions, at which depth, and how sure to be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ragsmith.evaluate.answers import COLUMNS, score_answers
from ragsmith.evaluate.calibration import calibrate
from ragsmith.evaluate.conditions import SERVED, Answered, Asked
from ragsmith.evaluate.decomposition import decompose
from ragsmith.evaluate.significance import compare, correct_together, estimates
from ragsmith.evaluate.slices import summarise_slices
from ragsmith.evaluate.sweep import reader_sweep, retrieval_sweep


@dataclass(frozen=True)
class DiagnosisSettings:
    """How it is looked at.

    Attributes:
        ks: depths of the sweep of retrieval.
        least_score: answers below are withheld.
        target_accuracy: of given answers, for the threshold that is chosen on dev.
        min_slice: questions without which a slice is compared with nothing.
        samples, seed: of all intervals and tests.
    """

    ks: Sequence[int]
    least_score: float
    target_accuracy: float
    min_slice: int
    samples: int
    seed: int


def diagnose(
    asked: Asked,
    runs: pd.DataFrame,
    answered: Answered,
    per_query: pd.DataFrame,
    dev: pd.DataFrame,
    served: str,
    settings: DiagnosisSettings,
) -> dict[str, Any]:
    """The parts `decomposition`, `slices`, `sweep` and `calibration` of metrics.json.

    The first is of the judged questions alone, and None without any.

    Args:
        asked: the test questions.
        runs: system, query_id, passage_id, score, rank.
        answered: what the reader made of them.
        per_query: as `per_query_table` gives it, with slice_<dimension>.
        dev: query_id, answer, score, em of the dev questions: thresholds are chosen on these.
        served: the system that is served.
        settings: see there.
    """
    chance: dict[str, Any] = {"samples": settings.samples, "seed": settings.seed}
    sweep = [
        score_answers(predicted, asked.answers).assign(k=k) for k, predicted in answered.sweep.groupby("k", sort=True)
    ]
    gain = f"ndcg@10_{served}"
    # Slices are compared with all other questions: by nDCG only where all are judged.
    by_rank = gain in per_query and per_query[gain].notna().all()
    judged_by = {"em": "em"} | ({"ndcg@10": gain} if by_rank else {})
    judged = per_query[per_query["query_id"].isin(asked.judged())]
    lost = decompose(judged, asked.qrels, least_score=settings.least_score, **chance) if len(judged) else None
    return {
        "decomposition": lost,
        "slices": summarise_slices(per_query, judged_by, min_queries=settings.min_slice, **chance),
        "sweep": {
            **retrieval_sweep(runs, asked.qrels, asked.answers, asked.passages, settings.ks, **chance),
            "reader": reader_sweep(pd.concat(sweep, ignore_index=True), **chance) if sweep else [],
        },
        "calibration": calibrate(per_query, dev, target_accuracy=settings.target_accuracy, **chance),
    }


def summarise_conditions(
    scored: Mapping[str, pd.DataFrame], *, samples: int = 10_000, seed: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The parts `conditions` and `condition_comparisons` of metrics.json.

    Args:
        scored: of each condition, from `score_conditions`; `SERVED` among them.
        samples, seed: of intervals and tests.
    Returns:
        {condition: {metric: {mean, ci95}}}, each of the questions that were asked in it; and the comparison of each
        other condition with the served one by EM and F1, on the questions of both, Holm's correction over all of them.
    """
    conditions = {
        condition: estimates(scores.sort_values("query_id", kind="stable")[list(COLUMNS)], samples=samples, seed=seed)
        for condition, scores in scored.items()
    }
    served = answer_metrics(scored[SERVED])
    compared = [
        one
        for condition, scores in scored.items()
        if condition != SERVED
        for one in compare(
            served[served["query_id"].isin(scores["query_id"])],
            answer_metrics(scores),
            names=(SERVED, condition),
            samples=samples,
            seed=seed,
        )
    ]
    return conditions, [vars(one) | {"ci95": list(one.ci95)} for one in correct_together(compared)]


def answer_metrics(scores: pd.DataFrame) -> pd.DataFrame:
    """EM and F1 as query_id, metric, value."""
    return scores[["query_id", "em", "f1"]].melt("query_id", var_name="metric")
