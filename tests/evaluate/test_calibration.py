import json

import numpy as np
import pandas as pd
import pytest

from ragsmith.evaluate.calibration import (
    area_under_risk_coverage,
    calibrate,
    expected_calibration_error,
    lowest_threshold,
    reliability_bins,
    risk_coverage,
)


def answers(confidence, right, given=None):
    count = len(confidence)
    return pd.DataFrame(
        {
            "query_id": [f"q{n}" for n in range(count)],
            "answer": ["x"] * count if given is None else given,
            "em": right,
            "score": confidence,
        }
    )


def simulated(count, seed=0, power=1.0):
    """Right as often as the confidence says, where power is 1."""
    rng = np.random.default_rng(seed)
    confidence = rng.random(count)
    return confidence, (rng.random(count) < confidence**power).astype(float)


def test_two_bins_are_those_worked_by_hand():
    confidence = np.repeat([0.2, 0.4, 0.6, 0.9], 10)  # 20 answers in each bin
    right = np.repeat([0, 1, 0, 1], [19, 1, 5, 15])
    bins = reliability_bins(confidence, right, bins=2).to_dict("records")
    assert bins == [
        {"low": 0.2, "high": 0.4, "queries": 20, "confidence": pytest.approx(0.3), "accuracy": pytest.approx(0.05)},
        {"low": 0.6, "high": 0.9, "queries": 20, "confidence": pytest.approx(0.75), "accuracy": pytest.approx(0.75)},
    ]
    error = expected_calibration_error(confidence, right, bins=2, samples=200, seed=0)
    assert error["mean"] == pytest.approx((0.25 + 0.0) / 2)


@pytest.mark.parametrize("confidence", ["continuous", "with ties"])
@pytest.mark.parametrize("bins", [1, 2, 5, 10])
def test_bins_are_those_of_sklearn(confidence, bins):
    from sklearn.calibration import calibration_curve

    sure, right = simulated(400, power=2)
    sure = sure if confidence == "continuous" else np.round(sure, 1)
    accuracy, mean = calibration_curve(right, sure, n_bins=bins, strategy="quantile")
    found = reliability_bins(sure, right, bins=bins)
    assert found["accuracy"].tolist() == pytest.approx(accuracy.tolist())
    assert found["confidence"].tolist() == pytest.approx(mean.tolist())
    assert found["queries"].sum() == 400 and (found["low"] <= found["high"]).all()


def test_few_answers_make_few_bins_and_equal_ones_stay_together():
    sure, right = simulated(59)
    assert reliability_bins(sure, right)["queries"].tolist() == [30, 29]
    assert len(reliability_bins([0.3], [1])) == 1
    assert len(reliability_bins([0.5] * 300, [0, 1] * 150)) == 1


def test_calibration_error_equals_the_slow_sum():
    sure, right = simulated(500, power=3)
    bins = reliability_bins(sure, right)
    slow = sum(row.queries / 500 * abs(row.accuracy - row.confidence) for row in bins.itertuples())
    assert expected_calibration_error(sure, right, samples=50, seed=0)["mean"] == pytest.approx(slow)


@pytest.mark.parametrize("share", [1.0, 0.9, 0.8, 0.5])
def test_interval_of_the_calibration_error_holds_the_truth(share):
    # Right with share * confidence: each bin is off by (1 - share) * its mean confidence, the whole by half of that.
    held = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        sure = rng.random(300)
        right = rng.random(300) < share * sure
        low, high = expected_calibration_error(sure, right, samples=200, seed=seed)["ci95"]
        held.append(low <= (1 - share) / 2 <= high)
    assert np.mean(held) > 0.88  # 95 % nominal; 3 standard errors are 6.5 %


def test_interval_begins_at_zero_for_a_calibrated_reader_alone():
    error = expected_calibration_error(*simulated(400), samples=500, seed=0)
    assert error["ci95"][0] == 0.0 < error["mean"] < error["ci95"][1] < 0.15
    assert expected_calibration_error(*simulated(400, power=4), samples=500, seed=0)["ci95"][0] > 0.1
    assert expected_calibration_error([0.7], [1], seed=0) == {"mean": pytest.approx(0.3), "ci95": [0.0, 1.0]}


def test_risk_and_coverage_are_those_worked_by_hand():
    curve = risk_coverage([0.9, 0.5, 0.5, 0.2], [1, 0, 1, 0], queries=5)
    assert curve.to_dict("list") == {
        "threshold": [0.9, 0.5, 0.2], "coverage": [0.2, 0.6, 0.8], "risk": [0.0, pytest.approx(1 / 3), 0.5]
    }  # fmt: skip
    # one answer at 0, two at 1/3, one at 1/2
    assert area_under_risk_coverage(curve) == pytest.approx((0 + 2 / 3 + 1 / 2) / 4)


def test_the_curve_equals_the_slow_loop_over_thresholds():
    sure, right = simulated(200)
    sure = np.round(sure, 2)
    curve = risk_coverage(sure, right)
    for row in curve.itertuples():
        given = sure >= row.threshold
        assert row.coverage == pytest.approx(given.mean()) and row.risk == pytest.approx(1 - right[given].mean())
    slow = np.mean([1 - right[sure >= threshold].mean() for threshold in sure])
    assert area_under_risk_coverage(curve) == pytest.approx(slow)


def test_area_of_a_blind_reader_is_its_share_of_wrong_answers_and_of_a_seeing_one_less():
    right = np.array([1, 1, 0, 0, 1] * 20)
    assert area_under_risk_coverage(risk_coverage(np.full(100, 0.4), right)) == pytest.approx(0.4)
    best = area_under_risk_coverage(risk_coverage(right, right))
    # after the 60 right answers at no risk, one step at .4 brings the 40 wrong ones
    assert best == pytest.approx(0.4 * 0.4)


def test_the_lowest_threshold_that_reaches_the_target_is_chosen():
    sure, right = [0.9, 0.8, 0.7, 0.6, 0.5], [1, 0, 1, 1, 0]
    # accuracy from each threshold on: 1, 1/2, 2/3, 3/4, 3/5
    assert lowest_threshold(sure, right, 0.75) == 0.6
    assert lowest_threshold(sure, right, 0.7) == 0.6
    assert lowest_threshold(sure, right, 0.76) == 0.9
    assert lowest_threshold(sure, right, 0.6) == 0.0  # all may answer
    assert lowest_threshold(sure, [0, 1, 1, 1, 1], 0.9) is None
    assert lowest_threshold([0.5, 0.5], [1, 0], 0.9) is None  # no threshold tells them apart
    assert lowest_threshold([0.9] * 3 + [0.1] * 10, [1] * 3 + [0] * 10, 3 / 13) == 0.0  # reached but for rounding


def test_a_threshold_is_chosen_on_dev_and_told_on_test():
    dev = answers([0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0])
    test = answers([0.95, 0.85, 0.5, 0.9], [1, 0, 1, 1], ["x", "y", "z", ""])
    found = calibrate(test, dev, target_accuracy=1.0, samples=50, seed=0)
    assert found["threshold"] == {
        "target_accuracy": 1.0,
        "value": 0.8,
        "dev": {"coverage": 0.5, "accuracy": 1.0},
        "test": {"coverage": 0.5, "accuracy": 0.5},  # the empty answer is never given
    }
    unsure = answers([0.1, 0.2], [1, 0])
    assert calibrate(unsure, dev, target_accuracy=1.0, samples=50, seed=0)["threshold"]["test"] == {
        "coverage": 0.0, "accuracy": None
    }  # fmt: skip
    assert calibrate(test, dev.assign(em=0), samples=50, seed=0)["threshold"] is None
    assert calibrate(test, dev.assign(answer=""), samples=50, seed=0)["threshold"] is None
    assert calibrate(test, samples=50, seed=0)["threshold"] is None


def test_calibration_has_the_documented_shape_and_survives_json():
    sure, right = simulated(1000)
    test = answers(sure, right)
    found = calibrate(test, test, samples=200, seed=0)
    assert list(found) == ["queries", "bins", "ece", "risk_coverage", "aurc", "threshold"]
    assert found["queries"] == sum(entry["queries"] for entry in found["bins"]) == 1000 and len(found["bins"]) == 10
    assert len(found["risk_coverage"]) == 101
    assert found["risk_coverage"][0]["threshold"] == sure.max() and found["risk_coverage"][-1]["coverage"] == 1.0
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert calibrate(test.iloc[::-1], test.iloc[::-1], samples=200, seed=0) == found


def test_empty_answers_lower_the_coverage_and_are_in_no_bin():
    found = calibrate(answers([0.9, 0.0, 0.0], [1, 0, 0], ["x", "", None]), samples=50, seed=0)
    assert found["bins"][0]["queries"] == 1 and found["queries"] == 3
    assert found["risk_coverage"] == [{"threshold": 0.9, "coverage": pytest.approx(1 / 3), "risk": 0.0}]


def test_without_any_answer_there_is_no_confidence_to_judge():
    assert calibrate(answers([0.0, 0.0], [0, 0], ["", "  "]), seed=0) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.iloc[:0], "Table test is empty"),
        (lambda t: t.drop(columns="score"), "Table test lacks column 'score'"),
        (lambda t: pd.concat([t, t]), "Table test repeats query 'q0', 'q1'"),
        (lambda t: t.assign(em=0.5), "em is not 0 or 1 for query 'q0'"),
        (lambda t: t.assign(score=[0.5, np.nan]), "score is not a number from 0 to 1 for query 'q1'"),
        (lambda t: t.assign(score=1.5), "score is not a number from 0 to 1 for query 'q0', 'q1'"),
    ],
)
def test_faulty_answers_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        calibrate(change(answers([0.2, 0.4], [0, 1])), seed=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: reliability_bins([0.5], [1], bins=0), "bins is 0"),
        (lambda: reliability_bins([0.5], [1, 0]), "got 1 for 2 answers"),
        (lambda: reliability_bins([], []), "at least one query"),
        (lambda: risk_coverage([0.5, 0.4], [1, 0], queries=1), "2 answers to 1 queries"),
        (lambda: lowest_threshold([0.5], [1], 80), "target_accuracy is 80"),
    ],
)
def test_faulty_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
