"""How many answers are supported by what they cite."""

from typing import Any

import pandas as pd

from ragsmith.compute.device import Machine
from ragsmith.evaluate.citations import Supports, score_citations
from ragsmith.evaluate.entailment import EntailmentModel
from ragsmith.evaluate.hallucination import HallucinationModel
from ragsmith.evaluate.significance import estimates
from ragsmith.retrieve.models import resolve_model

LETTUCEDETECT = "lettucedetect:"


def load_support(spec: str, machine: Machine, batch_tokens: int = 8192) -> Supports:
    """The model that says whether passages support an answer.

    Args:
        spec: a folder or hub name of an NLI cross-encoder (a classifier of pairs with a label "entailment"); or
            `lettucedetect:` and a folder or hub name of a LettuceDetect model.
        machine: where it computes and in which precision.
        batch_tokens: padded tokens computed at once, about.
    Raises:
        ModelError: it is not there, cannot be used, or is no such model.
        ModuleNotFoundError: LettuceDetect's package is asked for and not installed; the message has the command.
    """
    if spec.startswith(LETTUCEDETECT):
        return HallucinationModel.load(resolve_model(spec.removeprefix(LETTUCEDETECT)), machine)
    return EntailmentModel.load(resolve_model(spec), machine, batch_tokens)


def measure_faithfulness(
    table: pd.DataFrame, supports: Supports, *, model: str, threshold: float = 0.5, samples: int = 10_000, seed: int
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Score the citations of each answer, and average over the queries that were answered.

    Args:
        table: query_id, query, answer, citations, as `score_citations` takes them.
        supports: what `load_support` gives.
        model: its name, for the summary.
        threshold: of support, at least 0, below 1.
        samples, seed: of the bootstrap.
    Returns:
        what `score_citations` returns;
        {model, queries, unanswered, supported, citation_precision, citation_recall}: the last three as {mean, ci95}
            over the answered queries, of which there are `queries`.
    Raises:
        ValueError: as `score_citations`, or fewer than two queries have an answer.
    """
    scores = score_citations(table, supports, threshold=threshold)
    answered = scores[scores["support"].notna()].sort_values("query_id", kind="stable")
    if len(answered) < 2:
        raise ValueError(
            f"{len(answered)} of {len(scores)} queries have an answer, and uncertainty needs at least two of them. "
            f"Check the predictions."
        )
    means = estimates(
        answered[["supported", "citation_precision", "citation_recall"]].astype(float), samples=samples, seed=seed
    )
    return scores, {"model": model, "queries": len(answered), "unanswered": len(scores) - len(answered), **means}
