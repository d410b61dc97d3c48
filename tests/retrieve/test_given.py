import numpy as np
import pandas as pd

from ragsmith.retrieve.given import with_given_negatives

MINED = pd.DataFrame(
    [
        ("q1", ["p1"], ["p2", "p3"], [0.5, 0.4], []),
        ("q2", ["p2"], ["p1"], [0.3], [9.0, 1.0]),
        ("q3", ["p3"], [], [], []),
    ],
    columns=["query_id", "positive_ids", "negative_ids", "negative_scores", "teacher_scores"],
)
PASSAGES = pd.DataFrame({"passage_id": ["p1", "p2", "p3", "p4"]})


def given(*rows):
    return pd.DataFrame(rows, columns=["query_id", "passage_id", "score"])


def test_given_negatives_come_first_and_none_comes_twice() -> None:
    pairs = given(("q1", "p4", np.nan), ("q1", "p3", 0.9), ("q3", "p1", 0.2), ("q3", "p1", 0.2))
    found, used = with_given_negatives(MINED, pairs, PASSAGES)
    assert used == 3
    assert found["negative_ids"].tolist() == [["p4", "p3", "p2"], ["p1"], ["p1"]]
    assert np.isnan(found.at[0, "negative_scores"][0]) and found.at[0, "negative_scores"][1:] == [0.9, 0.5]
    assert MINED.at[0, "negative_ids"] == ["p2", "p3"]  # the input is left as it was


def test_positive_unknown_passage_and_unknown_query_are_left_out() -> None:
    pairs = given(("q1", "p1", 1.0), ("q1", "gone", 1.0), ("q9", "p4", 1.0))
    found, used = with_given_negatives(MINED, pairs, PASSAGES)
    assert found is MINED and used == 0
    assert with_given_negatives(MINED, given(), PASSAGES)[0] is MINED


def test_given_negatives_get_the_teacher_s_scores_in_the_places_of_their_ids() -> None:
    taught = {("q2", "p4"): 0.5, ("q2", "p1"): 1.0}
    found, used = with_given_negatives(
        MINED.iloc[[1]],
        given(("q2", "p4", 0.7), ("q2", "p1", np.nan)),
        PASSAGES,
        lambda queries, passages: np.asarray([taught[pair] for pair in zip(queries, passages, strict=True)]),
    )
    assert used == 2
    assert (found.at[1, "negative_ids"], found.at[1, "teacher_scores"]) == (["p4", "p1"], [9.0, 0.5, 1.0])
