import json

import numpy as np
import pandas as pd
import pytest

from ragsmith.evaluate.decomposition import CATEGORIES, categories, decompose, first_right_read

QRELS = pd.DataFrame(
    [(f"q{n}", "right", 1) for n in range(6)] + [("q0", "better", 2), ("q1", "wrong", 0)],
    columns=["query_id", "passage_id", "grade"],
)
#          answer, em, score, what was read
ANSWERS = [
    ("a", 1, 0.9, ["right", "x"]),
    ("b", 0, 0.8, ["wrong", "x", "right"]),
    ("c", 1, 0.3, ["x", "y"]),
    ("d", 0, 0.7, []),
    ("", 0, 0.0, ["right"]),
    ("  ", 0, 0.1, ["x"]),
]


def table(rows=ANSWERS):
    made = pd.DataFrame(rows, columns=["answer", "em", "score", "passage_ids"])
    return made.assign(query_id=[f"q{n}" for n in range(len(made))])


def test_each_question_falls_where_it_does_by_hand():
    assert categories(table(), QRELS).tolist() == [
        "retrieved_right", "retrieved_wrong", "missed_right", "missed_wrong", "abstained", "abstained"
    ]  # fmt: skip
    assert first_right_read(table(), QRELS).tolist() == [1, 3, pd.NA, pd.NA, 1, pd.NA]


def test_a_passage_that_was_judged_wrong_or_for_another_query_is_not_right():
    qrels = pd.DataFrame({"query_id": ["q0", "q1", "q1"], "passage_id": ["a", "b", "a"], "grade": [1, 1, 0]})
    read = pd.DataFrame({"query_id": ["q0", "q1"], "passage_ids": [["b", "a"], ["a"]]})
    assert first_right_read(read, qrels).tolist() == [2, pd.NA]


def test_answers_below_the_threshold_are_withheld():
    withheld = categories(table(), QRELS, least_score=0.8)  # .8 itself is given
    assert withheld.tolist() == ["retrieved_right", "retrieved_wrong", *["abstained"] * 4]
    bounds = decompose(table(), QRELS, least_score=0.8, samples=50, seed=0)["bounds"]
    assert bounds["now"]["mean"] == pytest.approx(1 / 6)


def test_bounds_and_ranks_are_those_worked_by_hand():
    found = decompose(table().assign(em_oracle=[1, 1, 0, 1, 0, 0]), QRELS, samples=200, seed=0)
    assert found["queries"] == 6 and found["read"] == 3
    assert found["counts"] == {
        "retrieved_right": 1, "retrieved_wrong": 1, "missed_right": 1, "missed_wrong": 1, "abstained": 2
    }  # fmt: skip
    means = {name: bound["mean"] for name, bound in found["bounds"].items()}
    assert means == pytest.approx({"now": 2 / 6, "perfect_retrieval": 3 / 6, "perfect_reader": 3 / 6})
    assert [(row["rank"], row["queries"]) for row in found["by_rank"]] == [
        ("1", 2), ("2", 0), ("3", 1), ("not read", 3)
    ]  # fmt: skip
    assert found["by_rank"][0]["em"]["mean"] == 0.5 and found["by_rank"][1]["em"] is None
    assert found["by_rank"][2]["em"] == {"mean": 0.0, "ci95": [0.0, 1.0]}  # one question tells nothing
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.parametrize("seed", range(30))
def test_the_parts_add_up_to_the_whole(seed):
    rng = np.random.default_rng(seed)
    count, passages = int(rng.integers(2, 40)), [f"p{n}" for n in range(6)]
    rows = []
    for _ in range(count):
        answer = str(rng.choice(["", "x"]))
        read = rng.choice(passages, rng.integers(0, 7), replace=False)
        rows.append(
            (answer, int(answer != "" and rng.random() < 0.5), rng.random(), read)
        )  # an array, as Parquet gives it
    per_query = table(rows).sample(frac=1, random_state=seed).assign(em_oracle=1.0)
    pairs = [(f"q{n}", p, int(g)) for n in range(count) for p, g in zip(passages, rng.integers(0, 3, 6), strict=True)]
    qrels = pd.DataFrame(
        [*pairs, *((f"q{n}", "never read", 1) for n in range(count))], columns=["query_id", "passage_id", "grade"]
    )
    least = float(rng.choice([0.0, 0.5]))
    found = decompose(per_query, qrels, least_score=least, samples=20, seed=0)
    counts, bounds = found["counts"], found["bounds"]
    assert list(counts) == list(CATEGORIES) and sum(counts.values()) == found["queries"] == count
    assert sum(row["queries"] for row in found["by_rank"]) == count
    right = counts["retrieved_right"] + counts["missed_right"]
    assert bounds["now"]["mean"] == pytest.approx(right / count)
    by_rank = sum(row["queries"] * row["em"]["mean"] for row in found["by_rank"] if row["em"])
    assert by_rank == pytest.approx(right)
    # What was retrieved, counted the slow way, is where perfect reading would end.
    right_of = {pair[:2] for pair in pairs if pair[2] > 0}
    read = zip(per_query["query_id"], per_query["passage_ids"], strict=True)
    retrieved = sum(any((query_id, passage_id) in right_of for passage_id in ids) for query_id, ids in read)
    assert bounds["perfect_reader"]["mean"] == pytest.approx(retrieved / count)
    assert found["by_rank"][-1]["queries"] == count - retrieved
    assert counts["retrieved_right"] + counts["retrieved_wrong"] <= retrieved


def test_the_interval_of_now_is_that_of_the_answers(metrics, answer_scores):
    per_query = answer_scores.assign(answer="x", score=1.0, passage_ids=[["p"]] * len(answer_scores))
    qrels = pd.DataFrame({"query_id": answer_scores["query_id"], "passage_id": "p", "grade": 1})
    found = decompose(per_query.iloc[::-1], qrels, samples=500, seed=0)
    assert found["bounds"]["now"] == metrics["answers"]["em"]


def test_the_oracle_counts_only_where_it_was_read():
    found = decompose(table().assign(em_oracle=np.nan), QRELS, samples=20, seed=0)
    assert found["bounds"]["perfect_retrieval"] is None
    with pytest.raises(ValueError, match=r"em_oracle is missing for query 'q1'; read the oracle condition for all"):
        decompose(table().assign(em_oracle=[1, None, 0, 0, 0, 0]), QRELS, seed=0)


def test_inputs_are_left_alone():
    per_query, before = table(), table()
    decompose(per_query, QRELS, samples=20, seed=0)
    pd.testing.assert_frame_equal(per_query, before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="passage_ids"), "lacks column 'passage_ids'"),
        (lambda t: t.iloc[:0], "nothing to split"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "repeats query 'q0'"),
        (lambda t: t.assign(query_id=[f"u{n}" for n in range(6)]), "no right passage .* for query 'u0'"),
        (lambda t: t.assign(em=0.5), "em is not 0 or 1 for query 'q0'"),
        (lambda t: t.assign(em=np.nan, score=None), r"em is not 0 or 1(.|\n)*the score is missing"),
    ],
)
def test_faulty_answers_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        decompose(change(table()), QRELS, seed=0)


def test_one_question_alone_is_refused():
    with pytest.raises(ValueError, match="at least two queries"):
        decompose(table().iloc[:1], QRELS, seed=0)
