"""The same reader under several conditions: on what was found, on what is right, on what the base finds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ragsmith.read.examples import retrieved_passages
from ragsmith.read.readers import Reader
from ragsmith.read.reading import Span
from ragsmith.retrieve.search import Searcher

SERVED = "retrieved"  # the condition that is served: all others are there to explain it
ORACLE = "oracle"  # right passages alone: of judged questions
PREDICTED = ["condition", "query_id", "answer", "passage_id", "start", "end", "score"]


@dataclass(frozen=True)
class Asked:
    """Questions, and the tables that say what answers them.

    Attributes:
        queries: query_id, text.
        passages: passage_id, title, text.
        qrels: query_id, passage_id, grade.
        answers: query_id, answers.
    """

    queries: pd.DataFrame
    passages: pd.DataFrame
    qrels: pd.DataFrame
    answers: pd.DataFrame

    def judged(self) -> set[str]:
        """The questions of which a right passage is known; none where that is fewer than two: one shows nothing."""
        right = self.qrels.loc[self.qrels["grade"] > 0, "query_id"]
        found = set(right[right.isin(self.queries["query_id"])])
        return found if len(found) > 1 else set()

    def judged_alone(self) -> "Asked":
        """The same, of the judged questions alone."""
        judged = self.judged()
        queries, qrels, answers = (
            table[table["query_id"].isin(judged)] for table in (self.queries, self.qrels, self.answers)
        )
        return Asked(queries, self.passages, qrels, answers)


@dataclass(frozen=True)
class Answered:
    """What was answered.

    Attributes:
        predictions: condition, query_id, answer, passage_id, start, end, score; an empty answer has an empty
            passage_id, -1 twice and 0; one that was written and does not stand in its passage has -1 twice alone.
        sweep: k, query_id, answer, passage_id, score: the served condition on the first k passages.
        posteriors: query_id, rank, passage_id, prior, posterior: shares over the passages that were read.
    """

    predictions: pd.DataFrame
    sweep: pd.DataFrame
    posteriors: pd.DataFrame


def oracle_run(queries: pd.DataFrame, qrels: pd.DataFrame, searcher: Searcher) -> pd.DataFrame:
    """The right passages of each question and no others, as a run: by grade, then by cosine.

    Args:
        queries: query_id, text.
        qrels: query_id, passage_id, grade; those of other questions are passed over.
        searcher: gives the cosines, which a reader takes as prior.
    Returns:
        query_id, passage_id, score (the grade), rank, cosine.
    """
    right = qrels[(qrels["grade"] > 0) & qrels["query_id"].isin(queries["query_id"])]
    run = right[["query_id", "passage_id"]].assign(score=right["grade"].astype(float)).reset_index(drop=True)
    vectors = searcher.encoder.encode(queries["text"].tolist(), "query")
    run["cosine"] = searcher.cosines(queries["query_id"].tolist(), vectors, run)
    run = run.sort_values(["query_id", "score", "cosine"], ascending=[True, False, False], kind="stable")
    run["rank"] = run.groupby("query_id").cumcount() + 1
    return run[["query_id", "passage_id", "score", "rank", "cosine"]].reset_index(drop=True)


def read_conditions(
    reader: Reader, asked: Asked, runs: Mapping[str, pd.DataFrame], k: int, ks: Sequence[int] = ()
) -> Answered:
    """Let the reader answer each question under each condition, but under `ORACLE` the judged ones alone.

    Args:
        reader: the same one in all.
        asked: the questions.
        runs: query_id, passage_id, rank, cosine for each condition.
        k: passages that are read.
        ks: numbers of passages that the served condition is also read with; needs `SERVED` among the runs.
    Returns:
        one prediction for each condition and question, conditions in the order of `runs`; without `ORACLE` where no
        question is judged.
    """
    predictions: list[pd.DataFrame] = []
    sweep: list[tuple[object, ...]] = []
    posteriors: list[tuple[object, ...]] = []
    for condition, run in runs.items():
        served = condition == SERVED
        of = asked.judged_alone() if condition == ORACLE else asked
        ids = of.queries["query_id"].tolist()
        if condition == ORACLE and not ids:
            continue
        wanted = sorted({k, *ks}) if served else [k]
        found = retrieved_passages(of.queries, run, of.passages, max(wanted))
        readings = reader.read_all(
            of.queries["text"].tolist(),
            found,
            wanted,
            f"reading, {condition.replace('_', ' ')}",
        )
        spans = [reading.of_first[k] for reading in readings]
        predictions.append(predicted(condition, ids, spans))
        if not served:
            continue
        for query_id, shown, reading in zip(ids, found, readings, strict=True):
            sweep += [(count, query_id, *said(reading.of_first[count])) for count in ks]
            # Of the first k alone: shares of what was read, and not of what the sweep read beside.
            posterior = reading.posterior_of_first.get(k, reading.posterior)
            shares = (share(np.asarray(values[:k])) for values in (reading.prior, posterior))
            rows = zip(shown, *shares, strict=False)
            posteriors += [(query_id, rank, one.passage_id, *both) for rank, (one, *both) in enumerate(rows, 1)]
    return Answered(
        pd.concat(predictions, ignore_index=True),
        pd.DataFrame(sweep, columns=["k", "query_id", "answer", "passage_id", "score"]),
        pd.DataFrame(posteriors, columns=["query_id", "rank", "passage_id", "prior", "posterior"]),
    )


def predicted(condition: str, query_ids: Sequence[str], spans: Sequence[Span | None]) -> pd.DataFrame:
    """The rows of `Answered.predictions` of one condition."""
    rows = [
        (condition, query_id, span.text, span.passage_id, span.start, span.end, span.score)
        if span and span.text
        else (condition, query_id, "", "", -1, -1, 0.0)
        for query_id, span in zip(query_ids, spans, strict=True)
    ]
    return pd.DataFrame(rows, columns=PREDICTED)


def said(span: Span | None) -> tuple[str, str, float]:
    """Answer, passage and score; nothing, where there is no span, or an empty one (of a reader that writes)."""
    return (span.text, span.passage_id, span.score) if span and span.text else ("", "", 0.0)


def share(values: np.ndarray) -> list[float]:
    """The values over their sum; 0 where it is 0."""
    total = values.sum()
    return [float(value / total) if total else 0.0 for value in values]
