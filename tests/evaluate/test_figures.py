import json

import pandas as pd
import pytest

from ragsmith.evaluate.figures import rank_distribution, rank_figure, retrieval_figure


def test_ranks_fall_into_their_buckets():
    per_query = pd.DataFrame({"rank_base": pd.array([1, 2, 3, 4, 10, 11, None, 1], dtype="Int64")})
    counts = rank_distribution(per_query).set_index("bucket")
    assert counts["queries"].to_dict() == {"1": 2, "2": 1, "3": 1, "4–10": 2, "not found": 2}
    assert counts["share"].sum() == pytest.approx(1)


def test_ranks_without_any_system_are_refused(per_query):
    with pytest.raises(ValueError, match="rank_<system>"):
        rank_distribution(per_query[["query_id"]])


def test_error_bars_end_at_the_interval(metrics):
    figure = retrieval_figure(metrics)
    assert [trace.name for trace in figure.data] == ["bm25", "base", "tuned"]
    low, high = metrics["retrieval"]["bm25"]["ndcg@10"]["ci95"]
    bar = figure.data[0]
    assert bar.y[0] + bar.error_y.array[0] == pytest.approx(high)
    assert bar.y[0] - bar.error_y.arrayminus[0] == pytest.approx(low)
    assert list(bar.x) == ["nDCG@10", "MRR@10", "Recall@10"]


def test_bars_of_ranks_add_up_to_all_queries(per_query):
    figure = rank_figure(per_query)
    assert sum(trace.x[0] for trace in figure.data) == pytest.approx(100)
    assert sum(trace.customdata[1] for trace in figure.data) == len(per_query)


def test_figures_have_title_axis_labels_and_survive_json(metrics, per_query):
    for figure in (retrieval_figure(metrics), rank_figure(per_query)):
        layout = json.loads(figure.to_json())["layout"]
        assert layout["title"]["text"] and layout["xaxis"]["title"]["text"] and layout["yaxis"]["title"]["text"]


def test_questions_that_nobody_judged_have_no_rank_that_is_counted():
    per_query = pd.DataFrame(
        {"rank_base": pd.array([1, None, None], dtype="Int64"), "right_ids": [["p1"], ["p2"], []]}
    )
    counts = rank_distribution(per_query).set_index("bucket")
    assert counts["queries"].to_dict() == {"1": 1, "2": 0, "3": 0, "4–10": 0, "not found": 1}
    for none in (per_query[2:], per_query[["right_ids"]]):
        assert "No question" in rank_figure(none).to_json()
