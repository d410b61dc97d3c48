import pytest
import torch

from ragsmith.learn.gate import UntrainedModel, average, choose, gate, with_original

BASE = {"w": torch.tensor([0.0, 2.0]), "position_ids": torch.tensor([0, 1])}
LAST = {"w": torch.tensor([1.0, 2.0]), "position_ids": torch.tensor([0, 1])}
BEST = {"w": torch.tensor([4.0, 0.0]), "position_ids": torch.tensor([0, 1])}


def scored(**scores):
    """A dev score that knows each candidate by its first weight: base 0, last 1, best 4, average 2 (or 0.5)."""
    name_of = {0.0: "base", 1.0: "last", 4.0: "best", 2.0: "average", 0.5: "average"}
    return lambda weights: scores[name_of[weights["w"][0].item()]]


@pytest.mark.parametrize("winner", ["base", "last", "best", "average"])
def test_highest_dev_score_ships(winner):
    scores = {"base": 0.5, "last": 0.5, "best": 0.5, "average": 0.5, winner: 0.6}
    weights, table = gate(BASE, LAST, BEST, scored(**scores), "ndcg@10")
    expected = {"base": BASE, "last": LAST, "best": BEST, "average": average(BASE, BEST)}[winner]
    assert torch.equal(weights["w"], expected["w"])
    assert [row["name"] for row in table if row["shipped"]] == [winner]
    assert {row["name"]: row["ndcg@10"] for row in table} == scores


def test_base_ships_when_nothing_beats_it_even_at_a_tie():
    weights, table = gate(BASE, LAST, BEST, scored(base=0.5, last=0.5, best=0.5, average=0.4), "ndcg@10")
    assert weights is BASE
    shipped = next(row for row in table if row["shipped"])
    assert shipped["reason"] == "highest dev ndcg@10: nothing beat the model it started from"


def test_without_a_best_evaluation_the_average_is_of_base_and_last():
    weights, table = gate(BASE, LAST, None, scored(base=0.1, last=0.2, average=0.3), "ndcg@10")
    assert weights["w"].tolist() == [0.5, 2.0] and {row["name"] for row in table} == {"base", "last", "average"}


def test_reasons_give_the_distance_to_what_ships():
    reasons = {c.name: c.reason for c in choose({"best": 0.75, "last": 0.7, "base": 0.5}, "em")}
    assert reasons["best"] == "highest dev em: +0.2500 over base"
    assert reasons["last"] == "-0.0500 against best" and reasons["base"] == "-0.2500 against best"


def test_untouched_weights_are_refused():
    same = {name: tensor.clone() for name, tensor in BASE.items()}
    with pytest.raises(UntrainedModel, match="nothing was learned"):
        gate(BASE, same, None, scored(base=0.5), "ndcg@10")


def test_average_is_half_of_each_and_keeps_whole_numbers():
    mean = average(BASE, BEST)
    assert mean["w"].tolist() == [2.0, 1.0]
    assert mean["position_ids"].tolist() == [0, 1] and mean["position_ids"].dtype == torch.int64


@pytest.mark.parametrize(("score", "ships"), [(0.49, "best"), (0.5, "original"), (0.6, "original")])
def test_model_before_its_pooling_was_changed_ships_unless_it_is_beaten(score, ships):
    table = [
        {"name": "best", "score": 0.5, "shipped": True, "reason": "highest dev score: +0.1000 over base"},
        {"name": "base", "score": 0.4, "shipped": False, "reason": "-0.1000 against best"},
    ]
    found = with_original(table, score, "score")
    assert [row["name"] for row in found] == ["best", "base", "original"]
    assert [row["name"] for row in found if row["shipped"]] == [ships]
    against = {row["name"]: row["reason"] for row in found}
    if ships == "original":
        assert against["best"] == f"{0.5 - score:+.4f} against original" and "nothing beat" in against["original"]
    else:
        assert against["best"] == table[0]["reason"] and against["original"] == "-0.0100 against best"


def test_best_weights_that_are_the_last_are_scored_once():
    asked = []

    def score(weights):
        asked.append(weights["w"][0].item())
        return scored(base=0.1, last=0.3, average=0.2)(weights)

    again = {name: tensor.clone() for name, tensor in LAST.items()}
    weights, table = gate(BASE, LAST, again, score, "ndcg@10")
    assert sorted(asked) == [0.0, 0.5, 1.0] and weights is again
    assert {row["name"]: row["ndcg@10"] for row in table} == {"best": 0.3, "average": 0.2, "last": 0.3, "base": 0.1}
