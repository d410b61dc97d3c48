import pytest
from pydantic import ValidationError

from ragsmith.pipelines.evaluation.params import EvaluationParams


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"metrics": ["ndcg@10", "accuracy@1"]}, "there is no metric 'accuracy@1': use ndcg"),
        ({"metrics": ["ndcg@0"]}, "there is no metric 'ndcg@0'"),
        ({"ks": [1, 5, 5]}, "each once, the smallest first"),
        ({"reader_ks": [3, 1]}, "each once, the smallest first"),
        ({"ks": [0, 1]}, "numbers from 1 on"),
        ({"ks": [1, 200]}, "depth is 100, and ks, reader_ks or passages ask for 200: raise depth"),
        ({"baseline": "latest"}, "'latest' is no baseline: take bm25, base, hybrid, reranked, or a version such as"),
        ({"baseline": "../../etc"}, "is no baseline"),
        ({"judge": {"repeats": 2}}, "judge.repeats"),
        ({"judge": {"endpoint": {"model": "m", "base_url": "ftp://x"}}}, "give http:// or https://"),
        ({"judge": {"endpoint": {"model": "m", "api_key_env": "sk-secret"}}}, "api_key_env"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_what_can(values, message):
    with pytest.raises(ValidationError) as error:
        EvaluationParams.model_validate(values)
    assert message in str(error.value)


def test_a_secret_in_the_wrong_place_is_not_repeated():
    with pytest.raises(ValidationError) as error:
        EvaluationParams.model_validate({"judge": {"endpoint": {"model": "m", "api_key_env": "sk-very-secret"}}})
    assert "sk-very-secret" not in str(error.value)


def test_an_earlier_version_leaves_the_first_comparison_with_the_base():
    assert EvaluationParams(baseline="20261121T114607Z-7c07519a").baseline_system == "base"
    assert EvaluationParams(baseline="bm25").baseline_system == "bm25"
