from copy import deepcopy

import pytest

from ragsmith.evaluate.headline import answers_headline, headline


def with_result(metrics, **changes):
    changed = deepcopy(metrics)
    for entry in changed["comparisons"]:
        entry.update(changes)
    return changed


def test_real_gain_is_said_with_its_size_and_evidence(metrics):
    text = headline(with_result(metrics, difference=0.25, ci95=[0.1, 0.4], p_holm=0.0005))
    assert text.startswith(
        "tuned ranks better than base, and chance alone is an unlikely explanation: nDCG@10 went from"
    )
    assert "+0.250, 95 % interval +0.100 to +0.400, Holm-corrected p < 0.001" in text and "40 test queries" in text


def test_real_loss_is_called_worse(metrics):
    text = headline(with_result(metrics, difference=-0.25, ci95=[-0.4, -0.1], p_holm=0.01))
    assert text.startswith("tuned ranks worse than base")


def test_unproven_gain_is_not_sold_as_one(metrics):
    text = headline(with_result(metrics, difference=0.25, ci95=[-0.1, 0.6], p_holm=0.2))
    assert text.startswith("No difference between tuned and base is shown")
    least = metrics["queries"]["smallest_detectable_difference"]["ndcg@10"]
    assert f"shows differences from about {least:.3f} upwards" in text


def test_without_comparison_nothing_is_claimed(metrics):
    assert headline({**metrics, "comparisons": []}).startswith("No two systems were compared")


def estimate(mean, half):
    return {"mean": mean, "ci95": [mean - half, mean + half]}


def with_bounds(metrics, retrieval, reader):
    counts = {"retrieved_wrong": 20, "missed_wrong": 30}
    bounds = {"now": estimate(0.4, 0.05), "perfect_retrieval": retrieval, "perfect_reader": reader}
    return {**metrics, "answers": {"em": estimate(0.4, 0.05)}, "decomposition": {"counts": counts, "bounds": bounds}}


@pytest.mark.parametrize(
    ("perfect_retrieval", "perfect_reader", "expected"),
    [
        (estimate(0.7, 0.05), estimate(0.5, 0.05), "Retrieval holds back more: perfect retrieval would give 70.0 %"),
        (estimate(0.5, 0.05), estimate(0.7, 0.05), "The reader holds back more: perfect retrieval would give 50.0 %"),
        (estimate(0.6, 0.05), estimate(0.65, 0.05), "Retrieval and the reader hold back about as much"),
        (None, estimate(0.65, 0.05), "30 lacked a right passage (retrieval) and 20 had one (the reader)"),
    ],
)
def test_what_holds_back_is_said_where_the_bounds_are_apart(metrics, perfect_retrieval, perfect_reader, expected):
    text = headline(with_bounds(metrics, perfect_retrieval, perfect_reader))
    assert "40.0 % of the questions are answered exactly right (95 % interval 35.0 % to 45.0 %)." in text
    assert expected in text


def test_answers_are_told_without_decomposition_and_left_out_without_answers(metrics):
    assert answers_headline(metrics).endswith("%).")
    assert answers_headline({**metrics, "answers": {}}) == ""
    assert answers_headline({**metrics, "decomposition": None}) == answers_headline(metrics)
