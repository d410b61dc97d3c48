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
    found = with_given_negatives(MINED, given(("q1", "p4", np.nan), ("q1", "p3", 0.9), ("q3", "p1", 0.2)), PASSAGES)
    assert found["negative_ids"].map(list).tolist() == [["p4", "p3", "p2"], ["p1"], ["p1"]]
    assert np.isnan(found.at[0, "negative_scores"][0]) and list(found.at[0, "negative_scores"][1:]) == [0.9, 0.5]
    assert MINED.at[0, "negative_ids"] == ["p2", "p3"]  # the input is left as it was


def test_positive_unknown_passage_and_taught_query_are_left_alone() -> None:
    found = with_given_negatives(MINED, given(("q1", "p1", 1.0), ("q1", "gone", 1.0), ("q2", "p4", 1.0)), PASSAGES)
    assert found["negative_ids"].map(list).tolist() == [["p2", "p3"], ["p1"], []]
    assert with_given_negatives(MINED, given(), PASSAGES) is MINED
