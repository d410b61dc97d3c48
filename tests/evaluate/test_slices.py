import json

import numpy as np
import pandas as pd
import pytest

from ragsmith.evaluate.significance import difference_of_groups, holm
from ragsmith.evaluate.slices import summarise_slices


def sliced(count=400, seed=0):
    """Short answers are as good as long ones, "how" is worse, and "how" with a short answer is worst."""
    rng = np.random.default_rng(seed)
    words, lengths = rng.choice(["how", "what", "why"], count, p=[0.45, 0.5, 0.05]), rng.choice(["1", "2"], count)
    chance = np.where(words == "how", np.where(lengths == "1", 0.1, 0.5), 0.7)
    em = (rng.random(count) < chance).astype(float)
    return pd.DataFrame(
        {
            "query_id": [f"q{n}" for n in range(count)],
            "em": em,
            "ndcg@10_hybrid": rng.choice([0, 0.5, 1], count),
            "slice_question_word": words,
            "slice_answer_length": lengths,
        }
    )


METRICS = {"em": "em", "ndcg@10": "ndcg@10_hybrid"}


def test_slices_hold_the_means_of_their_queries():
    table = sliced()
    found = summarise_slices(table, METRICS, samples=500, seed=0)
    assert [dimension["name"] for dimension in found["dimensions"]] == ["question_word", "answer_length"]
    for dimension in found["dimensions"]:
        column = table[f"slice_{dimension['name']}"]
        assert sum(entry["queries"] for entry in dimension["slices"]) == len(table)
        for entry in dimension["slices"]:
            inside = table[column == entry["value"]]
            assert entry["queries"] == len(inside)
            for metric, name in METRICS.items():
                assert entry[metric]["mean"] == pytest.approx(inside[name].mean())
                assert entry[metric]["ci95"][0] <= entry[metric]["mean"] <= entry[metric]["ci95"][1]
    # in the order of the dimension, not of size or appearance
    assert [entry["value"] for entry in found["dimensions"][0]["slices"]] == ["what", "how", "why"]
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_worst_slice_is_found_and_it_is_a_pair():
    worst = summarise_slices(sliced(), METRICS, samples=2000, seed=0)["worst"]
    assert (worst[0]["name"], worst[0]["value"]) == ("question_word and answer_length", "how and 1")
    assert worst[0]["metric"] == "em" and worst[0]["p_holm"] < 0.05
    assert ("question_word", "how") in {(entry["name"], entry["value"]) for entry in worst}
    order = [(entry["p_holm"], entry["difference"]) for entry in worst]
    assert order == sorted(order) and all(difference < 0 for _, difference in order)


def test_a_slice_is_compared_with_all_other_queries_as_two_groups_are():
    table = sliced()
    found = summarise_slices(table, {"em": "em"}, samples=5000, seed=3)
    for entry in found["worst"]:
        inside = np.ones(len(table), dtype=bool)
        for name, value in zip(entry["name"].split(" and "), entry["value"].split(" and "), strict=True):
            inside &= (table[f"slice_{name}"] == value).to_numpy()
        difference, ci95, p = difference_of_groups(table["em"], inside, samples=5000, seed=4)
        assert entry["queries"] == inside.sum() and entry["mean"] - entry["rest"] == pytest.approx(entry["difference"])
        assert entry["difference"] == pytest.approx(difference)
        assert entry["ci95"] == pytest.approx(ci95, abs=0.02) and entry["p"] == pytest.approx(p, abs=0.025)


def test_holm_corrects_over_everything_that_was_tested():
    table = sliced()
    found = summarise_slices(table, METRICS, samples=2000, seed=0)
    # what, how, 1 and 2, and the four pairs of them; "why" is too small. Twice, for two metrics.
    assert found["tested"] == 2 * (4 + 4)
    smallest = found["worst"][0]
    assert smallest["p_holm"] == pytest.approx(min(1, found["tested"] * smallest["p"]))
    assert smallest["p_holm"] == pytest.approx(holm([smallest["p"], *[1.0] * (found["tested"] - 1)])[0])


def test_slices_with_too_few_queries_inside_or_outside_are_not_compared():
    table = sliced(60).assign(slice_source=["wiki"] * 55 + ["folder"] * 5)
    found = summarise_slices(table, METRICS, min_queries=10, samples=500, seed=0)
    assert all("source" not in entry["name"] for entry in found["worst"])
    assert [entry["queries"] for entry in found["dimensions"][-1]["slices"]] == [55, 5]
    assert summarise_slices(table, METRICS, min_queries=31, samples=500, seed=0)["worst"] == []


def test_every_pair_that_is_large_enough_is_compared_and_no_other():
    table = sliced(200, seed=3)
    columns = ["slice_question_word", "slice_answer_length"]
    singles = [table[column].value_counts() for column in columns]
    for least in (5, 20, 45, 52):
        large = [counts[(counts >= least) & (len(table) - counts >= least)] for counts in singles]
        both = table.groupby(columns).size()
        pairs = [
            both.get((word, length), 0)
            for word, of_word in large[0].items()
            for length, of_length in large[1].items()
            if least <= both.get((word, length), 0) <= 0.9 * min(of_word, of_length)
        ]
        found = summarise_slices(table, {"em": "em"}, min_queries=least, samples=1000, seed=0)
        assert found["tested"] == sum(map(len, large)) + len(pairs)
        assert all(entry["queries"] >= least for entry in found["worst"])


def test_a_pair_that_is_nearly_one_of_its_slices_is_not_compared():
    table = sliced(200)
    table["slice_same"] = np.where(np.arange(200) < 5, "other", table["slice_answer_length"])
    alone = summarise_slices(table.drop(columns="slice_question_word"), {"em": "em"}, samples=1000, seed=0)
    assert alone["tested"] == 4 and all(" and " not in entry["name"] for entry in alone["worst"])


def test_there_are_never_more_tests_than_samples_can_tell():
    rng = np.random.default_rng(0)
    table = sliced(600)
    for number in range(8):
        table[f"slice_{number}"] = rng.choice(["a", "b", "c"], len(table))
    found = summarise_slices(table, METRICS, min_queries=10, samples=5000, seed=0)
    assert found["tested"] == 100 and len(found["worst"]) == 20
    assert 1 / 5001 * found["tested"] < 0.05  # the least p_holm that can come out


def test_equal_slices_are_rarely_called_worse():
    rng = np.random.default_rng(1)
    found = 0
    for seed in range(100):
        table = sliced(120, seed).assign(em=(rng.random(120) < 0.5).astype(float))
        worst = summarise_slices(table, {"em": "em"}, min_queries=10, samples=1000, seed=seed)["worst"]
        found += bool(worst) and worst[0]["p_holm"] < 0.05
    assert found <= 10  # 5 of 100 expected at most: 11 or more come by chance once in a hundred times


def test_the_order_of_rows_changes_nothing():
    table = sliced(100)
    first = summarise_slices(table, METRICS, min_queries=10, samples=300, seed=0)
    assert summarise_slices(table.iloc[::-1], METRICS, min_queries=10, samples=300, seed=0) == first
    assert summarise_slices(table, METRICS, min_queries=10, samples=300, seed=1) != first


def test_one_question_and_equal_answers_have_defined_values():
    one = summarise_slices(sliced(1), {"em": "em"}, samples=50, seed=0)
    assert one["dimensions"][0]["slices"][0]["em"]["ci95"] == [0.0, 1.0] and one["worst"] == [] and one["tested"] == 0
    assert summarise_slices(sliced(200).assign(em=0.3), {"em": "em"}, samples=50, seed=0)["worst"] == []
    wrong = summarise_slices(sliced(200).assign(em=0.0), {"em": "em"}, samples=50, seed=0)
    assert wrong["worst"] == [] and wrong["dimensions"][0]["slices"][0]["em"] == {"mean": 0.0, "ci95": [0.0, 0.0]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns=["slice_question_word", "slice_answer_length"]), "slice_<dimension>"),
        (lambda t: t.iloc[:0], "at least one query"),
        (lambda t: t.drop(columns="em"), "lacks column 'em'"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "repeats query 'q0'"),
        (lambda t: t.assign(em=np.nan), "400 of 400 scores are missing"),
    ],
)
def test_faulty_slices_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        summarise_slices(change(sliced()), METRICS, samples=50, seed=0)


def test_a_slice_of_one_query_cannot_be_compared():
    with pytest.raises(ValueError, match="min_queries is 1"):
        summarise_slices(sliced(), METRICS, min_queries=1, seed=0)
