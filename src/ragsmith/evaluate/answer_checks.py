"""Answers looked at by other models: whether what they cite supports them, and whether a language model agrees."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ragsmith.compute.device import Machine
from ragsmith.evaluate.conditions import SERVED, Asked
from ragsmith.llm.settings import LLMSettings
from ragsmith.retrieve.passage_text import passage_inputs


@dataclass(frozen=True)
class CheckSettings:
    """What looks at the answers; each part may be left out.

    Attributes:
        nli: folder of the model that says whether a passage supports an answer.
        lettucedetect: it is a LettuceDetect model, and no NLI cross-encoder.
        judge: the endpoint of a language model.
        repeats: judgements of each answer.
        limit: answers that are judged, spread evenly over the questions; None judges all.
        samples, seed: of the intervals; the seed is also the judge's.
    """

    nli: Path | None
    lettucedetect: bool
    judge: LLMSettings | None
    repeats: int
    limit: int | None
    samples: int
    seed: int


def check_answers(
    asked: Asked, predictions: pd.DataFrame, settings: CheckSettings, machine: Machine, work: Path
) -> tuple[dict[str, Any], pd.DataFrame]:
    """The parts `faithfulness` and `judge` of metrics.json, and what was found of each question.

    Args:
        asked: the questions; their qrels are not looked at.
        predictions: condition, query_id, answer, passage_id; only what is served is checked.
        settings: see there.
        machine: where the NLI model computes.
        work: where replies of the judge are kept: none is asked for twice.
    Returns:
        {faithfulness, judge}, None for what is left out; and a table by query_id with the columns of `score_citations`
        and of `judge_answers`, as far as they were asked for.
    Raises:
        ValueError, ModelError, LLMError: as `measure_faithfulness` and `judge_answers`.
    """
    served = predictions[predictions["condition"] == SERVED]
    table = asked.queries[["query_id", "text"]].rename(columns={"text": "query"})
    table = table.merge(served[["query_id", "answer", "passage_id"]], on="query_id")
    table = table.merge(asked.answers[["query_id", "answers"]].rename(columns={"answers": "expected"}), on="query_id")
    found: dict[str, Any] = {"faithfulness": None, "judge": None}
    checked = table[["query_id"]]
    chance: dict[str, Any] = {"samples": settings.samples, "seed": settings.seed}
    if settings.nli is not None:
        from ragsmith.evaluate.faithfulness import LETTUCEDETECT, load_support, measure_faithfulness

        supports = load_support(f"{LETTUCEDETECT if settings.lettucedetect else ''}{settings.nli}", machine)
        scores, found["faithfulness"] = measure_faithfulness(
            with_citations(table, asked.passages), supports, model=model_name(settings.nli), **chance
        )
        checked = checked.merge(scores, on="query_id", how="left")
    if settings.judge is not None:
        from ragsmith.evaluate.judge import judge_answers
        from ragsmith.llm.client import LLMClient

        judged = table if settings.limit is None else spread(table, settings.limit)
        with LLMClient(settings.judge, work / "judge") as client:
            verdicts, found["judge"] = judge_answers(judged, client, repeats=settings.repeats, **chance)
        checked = checked.merge(verdicts, on="query_id", how="left")
    return found, checked


def with_citations(table: pd.DataFrame, passages: pd.DataFrame) -> pd.DataFrame:
    """The answers with the text, as the reader saw it, of the passage that each was read from."""
    read = passages[passages["passage_id"].isin(table["passage_id"])]
    text_of = dict(zip(read["passage_id"], passage_inputs(read), strict=True))
    return table.assign(
        citations=[[text_of[passage_id]] if passage_id in text_of else [] for passage_id in table["passage_id"]]
    )


def spread(table: pd.DataFrame, limit: int) -> pd.DataFrame:
    """At most so many rows, evenly over the table: the same ones in each run."""
    if len(table) <= limit:
        return table
    return table.iloc[[place * len(table) // limit for place in range(limit)]].reset_index(drop=True)


def model_name(folder: Path) -> str:
    """What people call the model in a folder: a hub's snapshot by its name there, any other by its folder's.

    >>> model_name(Path("/cache/models--cross-encoder--nli-deberta-v3-small/snapshots/0a1b2c"))
    'cross-encoder/nli-deberta-v3-small'
    >>> model_name(Path("/models/my-nli"))
    'my-nli'
    """
    for part in folder.parts:
        if part.startswith("models--"):
            return part.removeprefix("models--").replace("--", "/")
    return folder.name
