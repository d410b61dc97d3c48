import numpy as np
import pandas as pd
import pytest

from ragsmith.retrieve.given import with_given_negatives, with_given_scores

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


def test_scores_of_records_stand_in_the_places_of_their_ids_and_mined_negatives_have_none() -> None:
    mined, _ = with_given_negatives(MINED.iloc[[0, 2]], given(("q1", "p4", 0.5), ("q3", "p4", 1.0)), PASSAGES)
    judged = given(("q1", "p4", 0.5), ("q3", "p4", 1.0), ("q9", "p1", 1.0))
    found, taught = with_given_scores(mined, judged, given(("q1", "p1", 8.0)))
    assert taught == 1 and found["negative_ids"].tolist() == [["p4", "p2", "p3"], ["p4"]]
    assert found["teacher_scores"].iloc[0] == pytest.approx([8.0, 0.5, np.nan, np.nan], nan_ok=True)
    assert found["teacher_scores"].iloc[1] == []  # nobody has scored its right passage


def test_a_query_of_which_one_right_passage_has_no_score_is_not_taught() -> None:
    mined = MINED.iloc[[0]].assign(positive_ids=[["p1", "p4"]])
    judged = given(("q1", "p2", 0.5))
    assert with_given_scores(mined, judged, given(("q1", "p1", 8.0)))[1] == 0
    assert with_given_scores(mined, judged, given(("q1", "p1", 8.0), ("q1", "p4", 7.0)))[1] == 1


def test_a_query_whose_given_negatives_are_all_of_other_splits_keeps_the_scores_of_its_right_passages() -> None:
    found, taught = with_given_scores(MINED.iloc[[0]], given(), given(("q1", "p1", 8.0)))
    assert taught == 1
    assert found["teacher_scores"].iloc[0] == pytest.approx([8.0, np.nan, np.nan], nan_ok=True)
