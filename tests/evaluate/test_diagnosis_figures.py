import html
import json

import numpy as np
import pandas as pd
import pytest

from ragsmith.evaluate._figure_parts import label
from ragsmith.evaluate.calibration import calibrate
from ragsmith.evaluate.decomposition import decompose
from ragsmith.evaluate.diagnosis_figures import (
    calibration_figure,
    decomposition_figure,
    slices_figure,
    sweep_figure,
)
from ragsmith.evaluate.slices import summarise_slices
from ragsmith.evaluate.sweep import reader_sweep

FIGURES = (decomposition_figure, slices_figure, sweep_figure, calibration_figure)
NASTY = "<script>alert(1)</script><a href='javascript:x'>\u202eb\x00\n" + "x" * 1000


@pytest.fixture(scope="module")
def diagnosis():
    """Every part as its own function makes it, over two hundred questions."""
    rng = np.random.default_rng(0)
    count = 200
    passages = [f"p{n}" for n in range(8)]
    per_query = pd.DataFrame(
        {
            "query_id": [f"q{n}" for n in range(count)],
            "answer": rng.choice(["x", "", "y"], count),
            "score": rng.random(count),
            "passage_ids": [rng.choice(passages, 4, replace=False).tolist() for _ in range(count)],
            "slice_question_word": rng.choice(["how", "other", NASTY], count),
            "slice_answer_type": rng.choice(["phrase", "other"], count),
        }
    )
    per_query["em"] = np.where(per_query["answer"] == "", 0, (rng.random(count) < per_query["score"]).astype(int))
    qrels = pd.DataFrame({"query_id": per_query["query_id"], "passage_id": "p1", "grade": 1})
    sweep = pd.concat([per_query.assign(k=k, f1=per_query["em"]) for k in (1, 5)])
    by_k = {"1": 0.2, "5": 0.6, "10": 0.7}
    return {
        "decomposition": decompose(per_query.assign(em_oracle=1), qrels, samples=100, seed=0),
        "slices": summarise_slices(per_query, {"em": "em"}, samples=100, seed=0),
        "sweep": {
            "retrieval": {name: dict.fromkeys(("hit", "ndcg", "answer_recall"), by_k) for name in ("bm25", NASTY)},
            "reader": reader_sweep(sweep, samples=100, seed=0),
        },
        "calibration": calibrate(per_query, per_query, target_accuracy=0.7, samples=100, seed=0),
    }


def texts_of(figure):
    """Every text of a figure's JSON, with the names it stands under."""
    found = []

    def walk(value, name):
        if isinstance(value, dict):
            for key, inner in value.items():
                if key != "template":
                    walk(inner, key)
        elif isinstance(value, list):
            for inner in value:
                walk(inner, name)
        elif isinstance(value, str):
            found.append((name, value))

    walk(json.loads(figure.to_json()), "")
    return found


@pytest.mark.parametrize("make", FIGURES)
def test_figures_have_title_and_axis_labels_and_survive_json(diagnosis, make):
    drawn = json.loads(make(diagnosis).to_json())
    assert drawn["layout"]["title"]["text"] and drawn["data"]
    axes = [value for name, value in drawn["layout"].items() if name[:5] in ("xaxis", "yaxis")]
    assert axes and all("title" in axis for axis in axes)


@pytest.mark.parametrize("make", FIGURES)
@pytest.mark.parametrize("part", ["missing", None, {}])
def test_a_missing_part_gives_an_empty_figure_that_says_why(make, part):
    metrics = {} if part == "missing" else dict.fromkeys(("decomposition", "slices", "sweep", "calibration"), part)
    figure = make(metrics)
    assert not figure.data and figure.layout.title.text
    assert len(figure.layout.annotations[0].text) > 20


@pytest.mark.parametrize("make", FIGURES)
def test_nothing_from_the_data_is_markup(diagnosis, make):
    for name, text in texts_of(make(diagnosis)):
        if name != "hovertemplate":
            assert "<script" not in text and "<a" not in text and "\u202e" not in text and "\x00" not in text, name
        assert len(text) < 400


def test_markup_from_the_data_is_shown_as_text(diagnosis):
    for make in (slices_figure, sweep_figure):
        assert any("&lt;script&gt;" in text for _, text in texts_of(make(diagnosis)))


def test_bars_of_categories_add_up_to_all_questions(diagnosis):
    figure = decomposition_figure(diagnosis)
    stacked = [trace for trace in figure.data if trace.orientation == "h"]
    assert sum(trace.x[0] for trace in stacked) == diagnosis["decomposition"]["queries"] == 200
    assert "with perfect retrieval 1.000" in figure.layout.title.text
    assert list(figure.data[-1].x) == ["1", "2", "3", "4", "not read"]
    without = diagnosis["decomposition"] | {
        "bounds": diagnosis["decomposition"]["bounds"] | {"perfect_retrieval": None}
    }
    assert "perfect retrieval" not in decomposition_figure({"decomposition": without}).layout.title.text


def test_error_bars_of_slices_end_at_the_interval_and_each_has_its_row(diagnosis):
    figure = slices_figure(diagnosis)
    rows = [entry for dimension in diagnosis["slices"]["dimensions"] for entry in dimension["slices"]]
    assert [place for trace in figure.data for place in trace.y] == list(range(len(rows)))
    trace = figure.data[0]
    for place, row in enumerate(rows[: len(trace.x)]):
        assert trace.x[place] + trace.error_x.array[place] == pytest.approx(row["em"]["ci95"][1])
        assert trace.x[place] - trace.error_x.arrayminus[place] == pytest.approx(row["em"]["ci95"][0])
    assert slices_figure(diagnosis, "mrr@10").data == ()


def test_a_line_of_the_sweep_is_one_system_and_metric(diagnosis):
    figure = sweep_figure(diagnosis)
    assert len(figure.data) == 2 * 3 + 2  # systems and kinds; exact match and F1
    assert [annotation.text for annotation in figure.layout.annotations] == ["Hit", "nDCG", "Answer recall", "Answers"]
    assert list(figure.data[0].x) == ["1", "5", "10"] and list(figure.data[0].y) == [0.2, 0.6, 0.7]
    assert list(figure.data[-2].x) == ["1", "5"]
    assert len(sweep_figure({"sweep": {"retrieval": {}, "reader": diagnosis["sweep"]["reader"]}}).data) == 2
    assert len(sweep_figure({"sweep": {"retrieval": diagnosis["sweep"]["retrieval"], "reader": []}}).data) == 6


def test_calibration_shows_its_bins_and_the_threshold_on_test(diagnosis):
    found = diagnosis["calibration"]
    figure = calibration_figure(diagnosis)
    assert list(figure.data[1].y) == [entry["accuracy"] for entry in found["bins"]]
    assert list(figure.data[2].x) == [entry["coverage"] for entry in found["risk_coverage"]]
    assert figure.data[3].y[0] == pytest.approx(1 - found["threshold"]["test"]["accuracy"])
    assert len(calibration_figure({"calibration": found | {"threshold": None}}).data) == 3


def test_labels_are_one_short_line_of_plain_text():
    shown = label(NASTY)
    assert html.unescape(shown) == "<script>alert(1)</script><a href='javascript:x'> b xxxxxxxxxxxxxxxxxxxxxxxxxxxx"[
        :79
    ] + "…"  # fmt: skip
    assert label("می\u200cم") == "می\u200cم"  # spelled with an invisible joiner
    assert label("") == "" and label("\ud800") == ""
