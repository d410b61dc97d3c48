"""MAP and MRR within given candidates: what cannot be ranked is left out, and ties count against the system."""

import pandas as pd
import pytest

from ragsmith.evaluate.candidates import score_candidates


def table(*rows: tuple[str, str, float, int]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["query_id", "passage_id", "score", "grade"])


def values(*rows: tuple[str, str, float, int]) -> dict[tuple[str, str], float]:
    scored = score_candidates(table(*rows))
    return {(row.query_id, row.metric): row.value for row in scored.itertuples(index=False)}


def test_map_and_mrr_are_those_worked_out_by_hand() -> None:
    # Right at ranks 2 and 3 of 4: AP = (1/2 + 2/3) / 2, RR = 1/2.
    found = values(("q", "a", 0.9, 0), ("q", "b", 0.8, 1), ("q", "c", 0.7, 1), ("q", "d", 0.6, 0))
    assert found == {("q", "map"): pytest.approx((1 / 2 + 2 / 3) / 2), ("q", "mrr"): pytest.approx(1 / 2)}


def test_queries_with_only_right_or_only_wrong_candidates_are_left_out() -> None:
    rows = [("r", "a", 1.0, 1), ("q", "a", 0.2, 1), ("w", "a", 1.0, 0), ("q", "b", 0.1, 0), ("w", "b", 0.5, 0)]
    assert values(*rows) == {("q", "map"): 1.0, ("q", "mrr"): 1.0}


def test_equal_scores_count_against_the_system_in_any_order_of_rows() -> None:
    rows = [("q", "a", 0.5, 1), ("q", "b", 0.5, 0), ("q", "c", 0.5, 0)]
    for order in (rows, rows[::-1]):
        assert values(*order)["q", "mrr"] == pytest.approx(1 / 3)


def test_a_right_candidate_below_rank_a_hundred_still_counts() -> None:
    rows = [("q", f"w{number:03}", 1 - number / 1000, 0) for number in range(150)]
    assert values(*rows, ("q", "right", 0.0, 1))["q", "map"] == pytest.approx(1 / 151)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("q", "a", 1.0, 1), ("q", "a", 0.5, 0)], "repeat"),
        ([("q", "a", 1.0, 0)], "nothing to rank"),
        ([("q", "a", float("nan"), 1), ("q", "b", 0.5, 0)], "NaN"),
    ],
)
def test_what_cannot_be_ranked_is_an_error(rows, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score_candidates(table(*rows))
