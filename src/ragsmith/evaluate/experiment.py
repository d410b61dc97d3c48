"""From runs and answers of several systems to the tables that are summarised and shown."""

from collections.abc import Mapping, Sequence

import pandas as pd

from ragsmith.evaluate.answer_recall import answer_recall
from ragsmith.evaluate.answers import score_answers
from ragsmith.evaluate.conditions import SERVED, Answered, Asked
from ragsmith.evaluate.retrieval import first_right_ranks, lengthen, score_matrix
from ragsmith.retrieve.index import RUN_COLUMNS

ANSWER_RECALL = "answer_recall@"


def measurable(metrics: Sequence[str], asked: Asked) -> list[str]:
    """The metrics that can be measured: where no question is judged, answer recall at their depths.

    Args:
        metrics: name@depth.
        asked: the questions.
    Returns:
        Each once, in their order.
    """
    if asked.judged():
        return list(dict.fromkeys(metrics))
    return list(dict.fromkeys(f"{ANSWER_RECALL}{name.partition('@')[2]}" for name in metrics))


def score_systems(runs: pd.DataFrame, asked: Asked, metrics: Sequence[str]) -> pd.DataFrame:
    """Per-query scores of every system.

    With judged questions they are of those alone, answer recall too: systems and metrics stand side by side, so that
    all are of the same questions. Without any, they are of all.

    Args:
        runs: system, query_id, passage_id, score, rank.
        asked: the questions that are judged.
        metrics: as `score_matrix` names them, and answer_recall at a depth.
    Returns:
        system, query_id, metric, value; systems in the order of `runs`, metrics as passed.
    Raises:
        ValueError: as `score_matrix` and `answer_recall`.
    """
    of = asked.judged_alone() if asked.judged() else asked
    judged = [name for name in metrics if not name.startswith(ANSWER_RECALL)]
    depths = [int(name.removeprefix(ANSWER_RECALL)) for name in metrics if name.startswith(ANSWER_RECALL)]
    scored = []
    for system, run in runs.groupby("system", sort=False):
        ranking = run.loc[run["query_id"].isin(of.queries["query_id"]), RUN_COLUMNS].reset_index(drop=True)
        matrix = score_matrix(ranking, of.qrels, judged) if judged else None
        if depths:
            recall = answer_recall(ranking, of.passages, of.answers, depths)
            matrix = recall if matrix is None else matrix.join(recall)
        if matrix is None:
            raise ValueError("No metric to score with. Name at least one, such as ndcg@10.")
        scored.append(lengthen(matrix[list(metrics)]).assign(system=system))
    return pd.concat(scored, ignore_index=True)[["system", "query_id", "metric", "value"]]


def score_conditions(predictions: pd.DataFrame, answers: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """`score_answers` of each condition, in their order, each of the questions that were asked in it.

    Args:
        predictions: condition, query_id, answer; an empty answer for none.
        answers: query_id, answers.
    """
    return {
        str(condition): score_answers(predicted, answers[answers["query_id"].isin(predicted["query_id"])])
        for condition, predicted in predictions.groupby("condition", sort=False)
    }


def per_query_table(
    asked: Asked, runs: pd.DataFrame, answered: Answered, scored: Mapping[str, pd.DataFrame], retrieval: pd.DataFrame
) -> pd.DataFrame:
    """One row per question: what was expected, found, read and answered, and how well.

    Args:
        asked: the questions.
        runs: system, query_id, passage_id, score, rank.
        answered: what the reader made of them.
        scored: of each condition, from `score_conditions`.
        retrieval: from `score_systems`.
    Returns:
        query_id, query, expected (accepted answers), answer, passage_id, start, end (where it was read, in the text as
        the reader saw it), score, em, f1, bleu, rouge1, rouge2, rougeL; right_ids (the best grade first), passage_ids
        and posteriors (what was read, in order); answer_, em_ and f1_<condition> for the other conditions;
        rank_<system> (of its first right passage, or missing) and ndcg@10_<system>, as far as `retrieval` has it. What
        needs a judged question is missing for the others, and has no column where there is none.
    """
    table = asked.queries[["query_id", "text"]].rename(columns={"text": "query"})
    table = table.merge(asked.answers[["query_id", "answers"]].rename(columns={"answers": "expected"}), on="query_id")
    served = answered.predictions[answered.predictions["condition"] == SERVED]
    table = table.merge(served.drop(columns="condition"), on="query_id").merge(scored[SERVED], on="query_id")
    right = asked.qrels[asked.qrels["grade"] > 0].sort_values(["query_id", "grade"], ascending=[True, False])
    lists = {
        "right_ids": right.groupby("query_id")["passage_id"].agg(list),
        "passage_ids": answered.posteriors.groupby("query_id")["passage_id"].agg(list),
        "posteriors": answered.posteriors.groupby("query_id")["posterior"].agg(list),
    }
    for name, values in lists.items():
        found = values.to_dict()
        table[name] = [found.get(query_id, []) for query_id in table["query_id"]]
    for condition, scores in scored.items():
        if condition != SERVED:
            others = answered.predictions[answered.predictions["condition"] == condition].merge(scores, on="query_id")
            named = {name: f"{name}_{condition}" for name in ("answer", "em", "f1")}
            table = table.merge(others[["query_id", *named]].rename(columns=named), on="query_id", how="left")
    gains = retrieval[retrieval["metric"] == "ndcg@10"]
    judged = asked.judged_alone()
    for system, run in runs[runs["query_id"].isin(judged.queries["query_id"])].groupby("system", sort=False):
        ranks = first_right_ranks(run[RUN_COLUMNS].reset_index(drop=True), judged.qrels).set_index("query_id")["rank"]
        table[f"rank_{system}"] = ranks.reindex(table["query_id"]).to_numpy()
        of_system = gains[gains["system"] == system].set_index("query_id")["value"]
        if len(of_system):
            table[f"ndcg@10_{system}"] = of_system.reindex(table["query_id"]).to_numpy()
    return table
