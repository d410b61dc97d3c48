import numpy as np
import pandas as pd
import pytest

from ragsmith.evaluate.report.sections import (
    CATEGORIES,
    calibration_view,
    decomposition_view,
    not_measured,
    posterior_view,
    rank_stacks,
    run_facts,
    slices_view,
    sweep_view,
)


def estimate(mean):
    return {"mean": mean, "ci95": [max(mean - 0.1, 0), min(mean + 0.1, 1)]}


def test_facts_are_grouped_by_what_they_belong_to():
    run = {"seed": 0, "machine": {"cores": 2, "gpu": {"name": "none"}}, "sources": ["a", "b"], "models": {}}
    assert run_facts(run, 1_234) == [
        ("", [("test_questions", "1,234"), ("seed", "0"), ("sources", "a, b")]),
        ("machine", [("cores", "2"), ("gpu.name", "none")]),
        ("models", []),
    ]


def test_segments_fill_the_bar_without_gap_or_overlap(full_per_query, full_metrics):
    stacks = rank_stacks(full_per_query)
    assert [name for name, _ in stacks] == ["bm25", "base", "tuned", "hybrid", "reranked"]
    bars = [*(segments for _, segments in stacks), decomposition_view(full_metrics["decomposition"])["segments"]]
    for segments in bars:
        ends = [part["start"] + part["width"] for part in segments]
        assert [part["start"] for part in segments] == pytest.approx([0, *ends[:-1]]) and ends[-1] == pytest.approx(
            100
        )
        assert sum(part["queries"] for part in segments) == len(full_per_query)


def test_ranks_without_columns_or_rows_give_no_bars(full_per_query):
    assert rank_stacks(full_per_query[["query_id"]]) == [] and rank_stacks(full_per_query.iloc[:0]) == []


def test_bound_that_was_not_measured_is_left_out(full_metrics):
    part = full_metrics["decomposition"]
    part["bounds"]["perfect_retrieval"] = None
    assert [label for label, _ in decomposition_view(part)["bounds"]] == ["now", "with a perfect reader"]
    assert [part["key"] for part in decomposition_view(part)["segments"]] == [key for key, *_ in CATEGORIES]


def test_sweep_has_a_chart_and_a_table_for_each_kind_and_depths_in_order():
    means = {"bm25": {"recall": {"10": 0.5, "1": 0.1, "100": 0.9}}, "tuned": {"recall": {"1": 0.2}, "mrr": {"1": 0.3}}}
    ends = {"bm25": {"recall": {"10": [0.4, 0.6]}}}
    read = [{"k": 3, "em": estimate(0.4), "f1": estimate(0.5)}]
    view = sweep_view({"retrieval": means, "retrieval_ci95": ends, "reader": read})
    assert [name for name, _ in view["charts"]] == ["Recall", "MRR"]
    recall = view["tables"][0][1]
    assert recall["depths"] == [1, 10, 100]
    assert recall["rows"] == [
        ("bm25", [(0.1, None), (0.5, [0.4, 0.6]), (0.9, None)]),
        ("tuned", [(0.2, None), (None, None), (None, None)]),
    ]
    assert [line.name for line in view["charts"][1][1].lines] == ["tuned"]
    assert [line.name for line in view["reader"].lines] == ["EM", "F1"]
    assert sweep_view({"retrieval": means, "reader": []})["reader"] is None and sweep_view(None) is None


def test_slices_come_lowest_first_and_those_beyond_a_bound_are_counted():
    slices = [{"value": str(n), "queries": n, "em": estimate(n / 40), "ndcg@10": None} for n in range(30, 0, -1)]
    part = {"min_queries": 5, "dimensions": [{"name": "source", "slices": slices}], "worst": []}
    (dimension,) = slices_view(part)["dimensions"]
    # Those below five questions come last, and with thirty slices not at all.
    assert [entry["value"] for entry in dimension["slices"]] == [str(n) for n in range(5, 30)]
    assert dimension["hidden"] == 5 and slices_view(None) is None


def test_slices_that_chance_explains_are_counted_and_not_shown():
    worst = [{"name": "word", "value": value, "p_holm": p} for value, p in (("how", 0.01), ("why", 0.2))]
    view = slices_view({"min_queries": 5, "dimensions": [], "worst": worst})
    assert [entry["value"] for entry in view["worst"]] == ["how"] and view["unsure"] == 1


def test_empty_bins_and_undefined_risks_are_not_drawn(full_metrics):
    part = full_metrics["calibration"]
    drawn = len(part["bins"])
    part["bins"].append({"low": 0.9, "high": 1.0, "queries": 0, "confidence": None, "accuracy": None})
    part["risk_coverage"].insert(0, {"threshold": 1.0, "coverage": 0.0, "risk": None})
    view = calibration_view(part)
    assert len(view["reliability"].lines[0].marks) == drawn
    assert len(view["risk"].lines[0].marks) == len(part["risk_coverage"]) - 1


def test_belief_is_averaged_by_rank_over_those_who_read_so_far():
    table = pd.DataFrame(
        {
            "query_id": ["a", "b", "c"],
            "query": ["A", "B", None],
            "passage_ids": [["p", "q"], ["q"], None],
            "right_ids": [["q"], ["x"], ["p"]],
            "posteriors": [np.array([0.25, 0.75]), [1.0], None],
        }
    )
    view = posterior_view(table)
    assert view["by_rank"] == [
        {"rank": 1, "mean": 0.625, "queries": 2},
        {"rank": 2, "mean": 0.75, "queries": 1},
    ]
    assert (view["on_right"], view["counted"], view["total"]) == (0.75, 1, 2)
    surest, other = view["rows"]
    assert surest["query_id"] == "b" and surest["empty"] == 1
    assert other["cells"] == [
        {"rank": 1, "percent": 25, "level": 2, "right": False},
        {"rank": 2, "percent": 75, "level": 8, "right": True},
    ]


def test_heat_map_shows_at_most_forty_from_the_surest_to_the_least_sure(full_per_query):
    view = posterior_view(full_per_query)
    highest = [max(cell["percent"] for cell in row["cells"]) for row in view["rows"]]
    assert len(highest) == 40 and highest == sorted(highest, reverse=True)
    every = full_per_query["posteriors"].map(max)
    assert highest[0] == round(100 * every.max()) and highest[-1] == round(100 * every.min())


@pytest.mark.parametrize("cells", [[None, None], [[], []], [[np.nan], [np.inf]]])
def test_table_without_any_belief_has_no_heat_map(full_per_query, cells):
    table = full_per_query.iloc[:2].assign(posteriors=pd.Series(cells, dtype=object))
    assert posterior_view(table) is None
    assert posterior_view(full_per_query.drop(columns="posteriors")) is None


def test_parts_that_lack_are_named_with_what_they_need(full_metrics, metrics):
    assert not_measured(full_metrics) == []
    names = [name for name, _ in not_measured(metrics)]
    assert "Faithfulness" in names and len(names) == 9
    assert [name for name, _ in not_measured({**full_metrics, "judge": None})] == ["Language model as judge"]
