"""Have a language model say which answers are right, several times, and say how far it agrees with itself."""

import json
import logging
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from ragsmith.evaluate._checks import listed, repeated, require_columns, some
from ragsmith.evaluate.agreement import fleiss_kappa, pairwise_agreement
from ragsmith.evaluate.significance import estimates
from ragsmith.llm.client import LLMClient
from ragsmith.llm.messages import Failure, Message, Prompt
from ragsmith.llm.settings import LLMError
from ragsmith.read.same_answer import exact_match

logger = logging.getLogger(__name__)

# What is longer is judged by its beginning; it bounds what a request costs.
_MOST_CHARACTERS = 4000
_MOST_REFERENCES = 50
_MOST_REASON = 500


class Verdict(BaseModel):
    """What the judge replies. The reason comes first: a model that writes it first judges by it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: str
    correct: bool


def judge_answers(
    table: pd.DataFrame,
    client: LLMClient,
    *,
    repeats: int = 3,
    most_failed: float = 0.1,
    samples: int = 10_000,
    seed: int,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Judge each answer against its references, `repeats` times with different seeds, and take the majority.

    The judge sees question, references and answer, as JSON, and neither ids nor which system answered: two systems
    that give one answer get one verdict. A query whose answer is empty is not correct, and is not asked about. A
    failed judgement counts for neither side: the verdict is what more than half of all repeats say, and a query for
    which neither verdict has so many has none and is left out of the mean.

    Args:
        table: query_id, query, expected (list of str, at least one), answer (str; missing counts as empty). The judge
            reads the first 4,000 characters of each text and the first 50 references.
        client: its settings say which model, at what temperature (above 0, or repeats are alike), and its cache keeps
            each judgement.
        repeats: judgements of each answer, odd and at least 3.
        most_failed: share of judgements that may fail, 0 to 1.
        samples: of the bootstrap.
        seed: of the bootstrap; the judge's is that of the client's settings.
    Returns:
        query_id, correct (nullable boolean), votes (judgements that say so), judged (judgements that did not fail; 0
            for an empty answer), reason (of the first judgement on the side of the majority, at most 500 characters),
            failure (of the first that failed, or empty); rows as in `table`;
        {model, queries, repeats, correct: {mean, ci95}, agreement, kappa, against_em, unanswered, failed,
            failed_judgements}. `queries` have a verdict, and `correct` is their mean. `agreement` is the share of
            pairs of repeats that agree, and `kappa` that of Fleiss, None where all verdicts are alike; both over
            answers of which no judgement failed. `against_em`: share of judged answers where judge and exact match
            say the same. `unanswered`, `failed`: queries with an empty answer, and without a verdict.
    Raises:
        ValueError: a column is missing, a query is there twice or has no reference, `repeats` is even or below 3, all
            answers are empty, or fewer than two queries have a verdict.
        LLMError: the endpoint cannot be used, or more than `most_failed` of the judgements failed.
    """
    rows = _rows(table)
    if repeats < 3 or repeats % 2 == 0:
        raise ValueError(f"repeats is {repeats}; a majority that is also compared with itself takes 3, 5 or 7.")
    if client.settings.temperature == 0:
        logger.warning("temperature is 0, so the repeats of the judge are alike and their agreement says nothing.")
    asked = [row for row in rows if row["answer"].strip()]
    if not asked:
        raise ValueError("Every answer is empty, so there is nothing to judge. Check the predictions.")
    rubric = Message("system", (resources.files("ragsmith.evaluate") / "templates" / "judge.txt").read_text("utf-8"))
    replies = client.complete_json(
        [Prompt((rubric, judged_text(row)), repeat) for row in asked for repeat in range(repeats)], Verdict, "judging"
    )
    _check_failures(replies, most_failed)
    each = {row["query_id"]: replies[place * repeats : (place + 1) * repeats] for place, row in enumerate(asked)}
    judged = pd.DataFrame([_outcome(row["query_id"], each.get(row["query_id"], []), repeats) for row in rows])
    judged["correct"] = judged["correct"].astype("boolean")
    summary = {"model": client.settings.model, "repeats": repeats, **_summary(judged, rows, repeats, samples, seed)}
    return judged, summary


def judged_text(row: Mapping[str, Any]) -> Message:
    """Question, references and answer as one JSON object, in which no text can end its own quotation.

    What does not print (line ends, terminal codes, marks that turn the direction, invisible letters) is escaped.

    Args:
        row: query, expected, answer.
    """
    values = {
        "question": str(row["query"])[:_MOST_CHARACTERS],
        "references": [str(text)[:_MOST_CHARACTERS] for text in row["expected"][:_MOST_REFERENCES]],
        "answer": str(row["answer"])[:_MOST_CHARACTERS],
    }
    text = json.dumps(values, ensure_ascii=False)
    return Message("user", "".join(sign if sign.isprintable() else json.dumps(sign)[1:-1] for sign in text))


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    require_columns(table, "answers to judge", ["query_id", "query", "expected", "answer"])
    if doubles := repeated(table, ["query_id"]):
        raise ValueError(f"More than one answer to judge for query {some(double[0] for double in doubles)}; keep one.")
    rows = [
        {
            "query_id": record["query_id"],
            "query": record["query"],
            "expected": listed(record["expected"]),
            "answer": "" if pd.isna(record["answer"]) else str(record["answer"]),
        }
        for record in table.to_dict("records")
    ]
    if bare := [row["query_id"] for row in rows if not row["expected"]]:
        raise ValueError(f"No reference answer for query {some(bare)}: nothing to judge against. Leave these out.")
    return rows


def _check_failures(replies: Sequence[Verdict | Failure], most_failed: float) -> None:
    failures = [reply for reply in replies if isinstance(reply, Failure)]
    if len(failures) > most_failed * len(replies):
        raise LLMError(
            f"{len(failures)} of {len(replies)} judgements failed, more than most_failed ({most_failed:g}) allows. "
            f"The first: {failures[0].message}"
        )
    if failures:
        logger.warning("%d of %d judgements failed. The first: %s", len(failures), len(replies), failures[0].message)


def _outcome(query_id: object, replies: Sequence[Verdict | Failure], repeats: int) -> dict[str, Any]:
    verdicts = [reply for reply in replies if isinstance(reply, Verdict)]
    failures = [reply.message for reply in replies if isinstance(reply, Failure)]
    votes = sum(verdict.correct for verdict in verdicts)
    correct: bool | None = None
    if not replies or 2 * (len(verdicts) - votes) > repeats:
        correct = False
    elif 2 * votes > repeats:
        correct = True
    reasons = [verdict.reason for verdict in verdicts if verdict.correct == correct]
    return {
        "query_id": query_id,
        "correct": correct,
        "votes": votes,
        "judged": len(verdicts),
        "reason": reasons[0][:_MOST_REASON] if reasons else "",
        "failure": failures[0] if failures else "",
    }


def _summary(
    judged: pd.DataFrame, rows: Sequence[Mapping[str, Any]], repeats: int, samples: int, seed: int
) -> dict[str, Any]:
    whole = judged[judged["judged"] == repeats]
    if whole.empty:
        raise LLMError("Of every answer at least one judgement failed, so their agreement is unknown. Run it again.")
    counts = np.column_stack([whole["votes"], repeats - whole["votes"]])
    decided = judged[judged["correct"].notna()].sort_values("query_id", kind="stable")
    correct = estimates(decided[["correct"]].astype(float), samples=samples, seed=seed)["correct"]
    matches = {row["query_id"]: exact_match(row["answer"], row["expected"]) == 1.0 for row in rows}
    answered = decided[decided["judged"] > 0]
    unanswered = sum(not row["answer"].strip() for row in rows)
    return {
        "queries": len(decided),
        "correct": correct,
        "agreement": pairwise_agreement(counts),
        "kappa": fleiss_kappa(counts),
        "against_em": float((answered["correct"] == answered["query_id"].map(matches)).mean()),
        "unanswered": unanswered,
        "failed": len(judged) - len(decided),
        "failed_judgements": int((repeats - judged["judged"]).sum()) - repeats * unanswered,
    }
