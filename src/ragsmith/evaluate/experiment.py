"""From the runs of several systems to the tables that are summarised and shown."""

from collections.abc import Sequence

import pandas as pd

from ragsmith.evaluate.retrieval import first_right_ranks, score_run


def score_systems(runs: pd.DataFrame, qrels: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Per-query scores of every system.

    Args:
        runs: system, query_id, passage_id, score, rank.
        qrels: query_id, passage_id, grade.
        metrics: as `score_run` names them.
    Returns:
        system, query_id, metric, value; systems in the order of `runs`.
    """
    columns = ["query_id", "passage_id", "score", "rank"]
    return pd.concat(
        [
            score_run(run[columns].reset_index(drop=True), qrels, tuple(metrics)).assign(system=system)
            for system, run in runs.groupby("system", sort=False)
        ],
        ignore_index=True,
    )[["system", "query_id", "metric", "value"]]


def per_query_table(
    queries: pd.DataFrame,
    qrels: pd.DataFrame,
    answers: pd.DataFrame,
    passages: pd.DataFrame,
    runs: pd.DataFrame,
    predictions: pd.DataFrame,
    scored: pd.DataFrame,
) -> pd.DataFrame:
    """One row per question, as the report shows it.

    Returns:
        query_id, query, expected (accepted answers), answer, em, f1, passage_title and passage_text (that the answer
        was read from, empty without one), and for each system rank_<system> (of its first right passage, or missing).
    """
    shown = passages.set_index("passage_id")[["title", "text"]]
    table = queries[["query_id", "text"]].rename(columns={"text": "query"})
    table = table.merge(answers[["query_id", "answers"]].rename(columns={"answers": "expected"}), on="query_id")
    table = table.merge(predictions[["query_id", "answer", "passage_id"]], on="query_id").merge(scored, on="query_id")
    read = shown.reindex(table["passage_id"])
    table["passage_title"] = read["title"].fillna("").to_numpy()
    table["passage_text"] = read["text"].fillna("").to_numpy()
    for system, run in runs.groupby("system", sort=False):
        ranks = first_right_ranks(run[["query_id", "passage_id", "score", "rank"]].reset_index(drop=True), qrels)
        table[f"rank_{system}"] = ranks.set_index("query_id")["rank"].reindex(table["query_id"]).to_numpy()
    return table.drop(columns="passage_id")
