"""The parameters of negative_mining, by both their names."""

import pytest
from pydantic import ValidationError

from ragsmith.pipelines.negative_mining.nodes import mining_settings
from ragsmith.pipelines.negative_mining.params import NegativeMiningParams


def test_names_of_flagembedding_are_taken_and_go_before_ours():
    given = {"range_for_sampling": "2-200", "negative_number": 15, "top_k": 7, "num_negatives": 1}
    settings = mining_settings(NegativeMiningParams.model_validate(given))
    assert (settings.skip_top, settings.top_k, settings.num_negatives) == (2, 200, 15)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"range_for_sampling": "2:200"},
            "range_for_sampling is '2:200'; write two ranks as first-last",
        ),
        ({"range_for_sampling": "200-2"}, "skip_top is 200 and top_k 2: no rank is left between them"),
        ({"min_score": 0.9, "max_score": 0.1}, "min_score 0.9 is above max_score 0.1"),
        ({"relaxed_margins": [0.1, 1.5]}, "relaxed_margins holds 1.5"),
        ({"miner": "sparse"}, "'dense', 'bm25', 'hybrid' or 'random'"),
        ({"topk": 3}, "Extra inputs are not permitted"),
    ],
)
def test_values_that_leave_nothing_to_choose_from_are_refused_with_the_reason(given, message):
    with pytest.raises(ValidationError, match=message):
        NegativeMiningParams.model_validate(given)


def test_every_parameter_reaches_the_library():
    given = {
        "miner": "hybrid",
        "skip_top": 3,
        "top_k": 50,
        "num_negatives": 9,
        "select": "random",
        "relative_margin": None,
        "relaxed_margins": [0.5],
        "absolute_margin": 0.2,
        "max_score": 0.8,
        "min_score": -0.3,
        "exclude_same_document": False,
        "exclude_same_section": False,
        "near_duplicate": None,
        "rerank_k": 7,
        "too_few": "drop",
        "audit_queries": 3,
        "seed": 5,
    }
    settings = mining_settings(NegativeMiningParams.model_validate(given))
    margins = settings.margins
    assert (margins.relative, margins.relaxed, margins.absolute) == (None, (0.5,), 0.2)
    assert (margins.highest, margins.lowest) == (0.8, -0.3)
    inside = {"relative_margin", "relaxed_margins", "absolute_margin", "max_score", "min_score"}
    assert {name: getattr(settings, name) for name in given if name not in inside} == {
        name: value for name, value in given.items() if name not in inside
    }
