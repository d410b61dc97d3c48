import pandas as pd
import pytest

from ragsmith.retrieve.fusion import reciprocal_rank_fusion
from ragsmith.retrieve.index import RUN_COLUMNS


def run_of(query_id: str, *passage_ids: str) -> pd.DataFrame:
    ranks = range(1, len(passage_ids) + 1)
    return pd.DataFrame({"query_id": query_id, "passage_id": passage_ids, "score": 9.0, "rank": ranks})


def test_a_passage_found_by_both_systems_comes_first() -> None:
    fused = reciprocal_rank_fusion([run_of("q", "dense", "both"), run_of("q", "both", "sparse")])
    assert fused.columns.tolist() == RUN_COLUMNS
    assert fused["passage_id"].tolist() == ["both", "dense", "sparse"]
    assert fused["score"].tolist() == pytest.approx([1 / 62 + 1 / 61, 1 / 61, 1 / 62])
    assert fused["rank"].tolist() == [1, 2, 3]


def test_the_order_of_systems_and_rows_does_not_matter_and_ties_go_by_id() -> None:
    one, two = run_of("q", "b", "a"), run_of("q", "a", "b")
    fused = reciprocal_rank_fusion([one, two])
    assert fused["passage_id"].tolist() == ["a", "b"]
    pd.testing.assert_frame_equal(fused, reciprocal_rank_fusion([two[::-1], one[::-1]]))


def test_a_small_k_lets_one_first_place_beat_two_seconds() -> None:
    runs = [run_of("q", "first", "second"), run_of("q", "other", "second")]
    assert reciprocal_rank_fusion(runs, k=60)["passage_id"][0] == "second"
    assert reciprocal_rank_fusion([*runs, run_of("q", "first")], k=1)["passage_id"][0] == "first"


def test_depth_is_kept_per_query_and_queries_do_not_mix() -> None:
    runs = [pd.concat([run_of("q1", "a", "b", "c"), run_of("q2", "c")]), run_of("q2", "a")]
    fused = reciprocal_rank_fusion(runs, depth=2)
    assert fused["query_id"].tolist() == ["q1", "q1", "q2", "q2"]
    assert fused["passage_id"].tolist() == ["a", "b", "a", "c"]


def test_no_runs_are_an_error() -> None:
    with pytest.raises(ValueError, match="No runs to fuse"):
        reciprocal_rank_fusion([])
