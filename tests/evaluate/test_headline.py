from copy import deepcopy

from ragsmith.evaluate.headline import headline


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
