import json

import numpy as np
import pandas as pd
import pytest

from ragsmith.evaluate.conditions import Answered, Asked
from ragsmith.evaluate.decomposition import categories
from ragsmith.evaluate.diagnosis import DiagnosisSettings, diagnose, summarise_conditions
from ragsmith.evaluate.experiment import measurable, per_query_table, score_conditions, score_systems
from ragsmith.evaluate.slice_columns import slice_columns

QUERIES = 24
IDS = [f"q{number:02}" for number in range(QUERIES)]
SETTINGS = DiagnosisSettings((1, 2), 0.0, 0.5, 5, samples=200, seed=0)


@pytest.fixture(scope="module")
def asked():
    """Question n is answered by passage n, which holds its answer; passage n + 100 is another."""
    queries = pd.DataFrame({"query_id": IDS, "text": [f"What is {number}?" for number in range(QUERIES)]})
    ids = [f"p{number}" for number in [*range(QUERIES), *range(100, 100 + QUERIES)]]
    passages = pd.DataFrame(
        {
            "passage_id": ids,
            "document_id": "d",
            "title": "t",
            "text": [f"answer{name[1:]} stands here" for name in ids],
        }
    )
    qrels = pd.DataFrame({"query_id": IDS, "passage_id": ids[:QUERIES], "grade": 1})
    answers = pd.DataFrame({"query_id": IDS, "answers": [[f"answer{number}"] for number in range(QUERIES)]})
    return Asked(queries, passages, qrels, answers)


@pytest.fixture(scope="module")
def runs():
    """The tuned system finds every passage first but each fourth, which it finds second; base never finds it first."""
    rows = []
    for number, query_id in enumerate(IDS):
        right, wrong = f"p{number}", f"p{number + 100}"
        for system, first in (("base", False), ("tuned", number % 4 > 0)):
            for rank, passage_id in enumerate([right, wrong] if first else [wrong, right], 1):
                rows.append((system, query_id, passage_id, 1.0 / rank, rank, 0.5))
    return pd.DataFrame(rows, columns=["system", "query_id", "passage_id", "score", "rank", "cosine"])


@pytest.fixture(scope="module")
def answered(runs):
    """The reader names what stands in the first passage of the tuned run; the oracle is always right but once."""
    first = runs[(runs["system"] == "tuned") & (runs["rank"] == 1)].set_index("query_id")["passage_id"]
    predictions, sweep, posteriors = [], [], []
    for number, query_id in enumerate(IDS):
        said = f"answer{first[query_id][1:]}"
        predictions.append(("retrieved", query_id, said, first[query_id], 2, 9, 0.2 + 0.6 * (number % 4 > 0)))
        predictions.append(("oracle", query_id, f"answer{number}" if number else "", f"p{number}", 2, 9, 0.9))
        for k in (1, 2):
            sweep.append((k, query_id, said if k == 1 else f"answer{number}", first[query_id], 0.5))
        posteriors += [(query_id, 1, first[query_id], 0.6, 0.75), (query_id, 2, "other", 0.4, 0.25)]
    return Answered(
        pd.DataFrame(predictions, columns=["condition", "query_id", "answer", "passage_id", "start", "end", "score"]),
        pd.DataFrame(sweep, columns=["k", "query_id", "answer", "passage_id", "score"]),
        pd.DataFrame(posteriors, columns=["query_id", "rank", "passage_id", "prior", "posterior"]),
    )


@pytest.fixture(scope="module")
def table(asked, runs, answered):
    scored = score_conditions(answered.predictions, asked.answers)
    found = per_query_table(asked, runs, answered, scored, score_systems(runs, asked, ["ndcg@10"]))
    documents = pd.DataFrame({"document_id": ["d"], "source": ["s"]})
    found["category"] = categories(found, asked.qrels)
    return found.merge(
        slice_columns(asked.queries, asked.answers, asked.qrels, asked.passages, documents), on="query_id"
    )


def test_metrics_of_systems_are_those_of_their_ranks(asked, runs):
    scored = score_systems(runs, asked, ["mrr@10", "answer_recall@1", "hit@1"])
    means = scored.groupby(["system", "metric"])["value"].mean()
    assert means["base", "mrr@10"] == 0.5 and means["base", "answer_recall@1"] == 0.0
    assert means["tuned", "mrr@10"] == pytest.approx(0.75 + 0.25 / 2)
    assert means["tuned", "answer_recall@1"] == means["tuned", "hit@1"] == 0.75
    assert scored["metric"].unique().tolist() == ["mrr@10", "answer_recall@1", "hit@1"]


def test_each_question_has_one_row_with_all_that_is_known_of_it(table):
    assert table["query_id"].tolist() == IDS
    row = table.iloc[4]  # found second
    assert (row["em"], row["em_oracle"], row["rank_tuned"], row["rank_base"]) == (0.0, 1.0, 2, 2)
    assert row["answer"] == "answer104" and row["answer_oracle"] == "answer4"
    assert row["right_ids"] == ["p4"] and row["passage_ids"] == ["p104", "other"] and row["posteriors"] == [0.75, 0.25]
    assert row["ndcg@10_tuned"] == pytest.approx(1 / np.log2(3))
    assert row["category"] == "missed_wrong" and table.iloc[5]["category"] == "retrieved_right"


def test_what_lies_behind_the_headline_adds_up(asked, runs, answered, table):
    dev = pd.DataFrame({"query_id": ["a", "b"], "answer": ["x", "y"], "score": [0.8, 0.2], "em": [1.0, 0.0]})
    found = diagnose(asked, runs, answered, table, dev, "tuned", SETTINGS)
    assert found["decomposition"]["counts"] == {
        "retrieved_right": 18, "retrieved_wrong": 0, "missed_right": 0, "missed_wrong": 6, "abstained": 0
    }  # fmt: skip
    bounds = found["decomposition"]["bounds"]
    assert [bounds[name]["mean"] for name in ("now", "perfect_reader")] == [0.75, 0.75]
    assert bounds["perfect_retrieval"]["mean"] == pytest.approx(23 / 24)
    assert [(entry["k"], entry["em"]["mean"]) for entry in found["sweep"]["reader"]] == [(1, 0.75), (2, 1.0)]
    assert found["sweep"]["retrieval"]["tuned"]["hit"] == {"1": 0.75, "2": 1.0}
    assert found["sweep"]["retrieval"]["base"]["answer_recall"] == {"1": 0.0, "2": 1.0}
    # The threshold is from dev: .2 reaches one half there, and on test everything is given.
    assert found["calibration"]["threshold"]["test"] == {"coverage": 1.0, "accuracy": 0.75}
    assert {entry["name"] for entry in found["slices"]["dimensions"]} >= {"question_word", "answer_type", "source"}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_conditions_are_compared_with_what_is_served(asked, answered):
    scored = score_conditions(answered.predictions, asked.answers)
    conditions, compared = summarise_conditions(scored, samples=500, seed=0)
    assert conditions["retrieved"]["em"]["mean"] == 0.75 and conditions["oracle"]["em"]["mean"] == pytest.approx(
        23 / 24
    )
    assert [(one["a"], one["b"], one["metric"]) for one in compared] == [
        ("retrieved", "oracle", "em"),
        ("retrieved", "oracle", "f1"),
    ]
    assert compared[0]["difference"] == pytest.approx(23 / 24 - 0.75) and compared[0]["p_holm"] >= compared[0]["p"]
    assert json.loads(json.dumps(compared)) == compared


JUDGED = 16
DEV = pd.DataFrame({"query_id": ["a", "b"], "answer": ["x", "y"], "score": [0.8, 0.2], "em": [1.0, 0.0]})


def measured(asked, runs, answered):
    """All that an evaluation makes of these questions."""
    names = measurable(["ndcg@10", "mrr@10", "answer_recall@1"], asked)
    retrieval = score_systems(runs, asked, names)
    scored = score_conditions(answered.predictions, asked.answers)
    table = per_query_table(asked, runs, answered, scored, retrieval)
    documents = pd.DataFrame({"document_id": ["d"], "source": ["s"]})
    slices = slice_columns(asked.queries, asked.answers, asked.qrels, asked.passages, documents)
    table = table.merge(slices, on="query_id")
    found = diagnose(asked, runs, answered, table, DEV, "tuned", SETTINGS)
    return retrieval, table, found, summarise_conditions(scored, samples=200, seed=0)


def of(asked, runs, answered, ids):
    """The same for these questions alone."""
    queries, qrels, answers, run = (
        table[table["query_id"].isin(ids)] for table in (asked.queries, asked.qrels, asked.answers, runs)
    )
    parts = (answered.predictions, answered.sweep, answered.posteriors)
    kept = Answered(*(table[table["query_id"].isin(ids)].reset_index(drop=True) for table in parts))
    return Asked(queries, asked.passages, qrels, answers), run, kept


def without_oracle(answered, ids):
    """What is read where only these questions are judged."""
    table = answered.predictions
    kept = table[(table["condition"] != "oracle") | table["query_id"].isin(ids)].reset_index(drop=True)
    return Answered(kept, answered.sweep, answered.posteriors)


def test_questions_that_nobody_judged_change_no_figure_that_needs_judgements(asked, runs, answered):
    ids = IDS[:JUDGED]
    part = Asked(asked.queries, asked.passages, asked.qrels[asked.qrels["query_id"].isin(ids)], asked.answers)
    retrieval, table, found, (conditions, compared) = measured(part, runs, without_oracle(answered, ids))
    alone = measured(*of(asked, runs, answered, ids))
    whole = measured(asked, runs, answered)
    pd.testing.assert_frame_equal(retrieval, alone[0])
    assert found["decomposition"] == alone[2]["decomposition"]
    assert conditions["oracle"] == alone[3][0]["oracle"] and compared == alone[3][1]
    for system, by_kind in found["sweep"]["retrieval"].items():
        for kind, means in by_kind.items():
            # Answer recall and what is read are of all questions.
            same = whole if kind == "answer_recall" else alone
            assert means == same[2]["sweep"]["retrieval"][system][kind]
    assert conditions["retrieved"] == whole[3][0]["retrieved"]
    assert found["sweep"]["reader"] == whole[2]["sweep"]["reader"] and found["calibration"] == whole[2]["calibration"]
    columns = ["query_id", "em", "f1", "answer", "score"]
    pd.testing.assert_frame_equal(table[columns], whole[1][columns])
    known = ["rank_tuned", "ndcg@10_tuned", "em_oracle", "right_ids"]
    pd.testing.assert_frame_equal(table[known][:JUDGED], whole[1][known][:JUDGED], check_dtype=False)
    assert table[known[:3]][JUDGED:].isna().all(axis=None) and not table["right_ids"][JUDGED:].map(len).any()
    # Slices by nDCG would be compared with questions that have none.
    first = found["slices"]["dimensions"][0]["slices"][0]
    assert "em" in first and "ndcg@10" not in first and "ndcg@10" in whole[2]["slices"]["dimensions"][0]["slices"][0]
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.parametrize("judged", [0, 1])
def test_without_judged_questions_retrieval_is_measured_by_the_answers(asked, runs, answered, judged):
    qrels = asked.qrels[asked.qrels["query_id"].isin(IDS[:judged])]
    part = Asked(asked.queries, asked.passages, qrels, asked.answers)
    retrieval, table, found, (conditions, compared) = measured(part, runs, without_oracle(answered, []))
    assert set(retrieval["metric"]) == {"answer_recall@10", "answer_recall@1"} and len(retrieval) == 2 * 2 * QUERIES
    means = retrieval.groupby(["system", "metric"])["value"].mean()
    assert (means["base", "answer_recall@1"], means["tuned", "answer_recall@1"]) == (0.0, 0.75)
    assert found["decomposition"] is None and set(conditions) == {"retrieved"} and not compared
    assert conditions["retrieved"]["em"]["mean"] == 0.75
    assert found["sweep"]["retrieval"]["tuned"]["answer_recall"] == {"1": 0.75, "2": 1.0}
    assert not [name for name in table if name.startswith(("rank_", "ndcg", "em_"))]
