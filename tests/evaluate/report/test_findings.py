import pytest

from ragsmith.evaluate.report.findings import findings, tiles


def said(metrics, section):
    return [finding.text for finding in findings(metrics) if finding.section == section]


def test_tiles_are_those_of_the_parts_that_there_are(full_metrics, metrics):
    assert [tile.section for tile in tiles(full_metrics)] == ["retrieval", "errors", "answers", "gate"]
    assert [tile.section for tile in tiles(metrics)] == ["retrieval", "answers"]
    assert tiles({**metrics, "comparisons": [], "answers": {}}) == []


def test_tile_holds_the_tuned_system_against_the_first_one(full_metrics):
    tile = tiles(full_metrics)[0]
    before, after = (full_metrics["retrieval"][name]["ndcg@10"]["mean"] for name in ("base", "tuned"))
    assert (tile.label, tile.value, tile.note) == ("nDCG@10 of tuned", f"{after:.3f}", f"{before:.3f} with base")


def test_nothing_is_found_where_nothing_was_measured(metrics):
    assert findings(metrics) == []
    assert findings({**metrics, "slices": None, "forgetting": None, "calibration": None, "decomposition": None}) == []


def test_errors_are_told_apart(full_metrics):
    full_metrics["decomposition"] |= {
        "queries": 1_000,
        "counts": {
            "retrieved_right": 500,
            "missed_right": 10,
            "retrieved_wrong": 150,
            "missed_wrong": 300,
            "abstained": 40,
        },
    }
    assert said(full_metrics, "errors") == [
        "Of 1,000 questions 510 are answered right. 300 fail because no right passage is read, 150 although one is; "
        "40 get no answer."
    ]


@pytest.mark.parametrize(
    ("a", "b", "difference", "p", "words"),
    [
        ("base_retrieved", "retrieved", 0.05, 0.01, "raises the share of right answers by 5.0 percentage points"),
        ("retrieved", "base_retrieved", -0.05, 0.01, "raises the share of right answers by 5.0 percentage points"),
        ("base_retrieved", "retrieved", -0.05, 0.01, "lowers the share of right answers by 5.0 percentage points"),
        ("base_retrieved", "retrieved", 0.05, 0.3, "is not shown on this many questions"),
    ],
)
def test_what_tuning_does_to_answers_is_said_only_where_it_is_shown(full_metrics, a, b, difference, p, words):
    entry = {"a": a, "b": b, "metric": "em", "difference": difference, "ci95": [0, 0], "p": p, "p_holm": p}
    (text,) = said({**full_metrics, "condition_comparisons": [entry]}, "answers")
    assert words in text


def test_a_weak_slice_is_named_only_where_chance_does_not_explain_it(full_metrics):
    entry = {"name": "question_word", "value": "how", "queries": 40, "metric": "em", "mean": 0.2, "rest": 0.5,
             "difference": -0.3, "ci95": [-0.4, -0.2], "p": 0.001, "p_holm": 0.01}  # fmt: skip
    full_metrics["slices"]["worst"] = [{**entry, "p_holm": 0.2, "value": "why"}, entry]
    (text,) = said(full_metrics, "slices")
    assert text == "The weakest slice is question word: how. Its 40 questions have EM 0.200, the others 0.500."
    full_metrics["slices"]["worst"] = full_metrics["slices"]["worst"][:1]
    assert said(full_metrics, "slices") == []


def test_threshold_is_told_by_what_it_gives_on_test(full_metrics):
    full_metrics["calibration"]["threshold"] = {
        "target_accuracy": 0.9,
        "value": 0.61,
        "dev": {"coverage": 0.5, "accuracy": 0.9},
        "test": {"coverage": 0.4, "accuracy": 0.85},
    }
    (text,) = said(full_metrics, "calibration")
    assert "at least 0.61 are right in 85.0 % of the cases; they cover 40.0 %" in text
    full_metrics["calibration"]["threshold"]["test"] = {"coverage": 0.0, "accuracy": None}
    assert said(full_metrics, "calibration") == []


def test_forgetting_is_said_where_it_is_shown_and_else_not_denied(full_metrics):
    (entry,) = full_metrics["forgetting"]["comparisons"]
    assert said(full_metrics, "forgetting") == [
        "That tuning costs anything on other texts (general questions) is not shown."
    ]
    entry |= {"p_holm": 0.01, "difference": -0.02}
    assert said(full_metrics, "forgetting") == ["On other texts (general questions) tuning costs 0.020 nDCG@10."]
