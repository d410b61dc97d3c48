"""What all parameters have in common."""

import importlib
import math
from itertools import chain

import pytest
from pydantic import ValidationError

from ragsmith.pipelines.data_collection.params import SplitParams
from ragsmith.pipelines.evaluation.params import EvaluationParams
from ragsmith.pipelines.negative_mining.params import NegativeMiningParams
from ragsmith.pipelines.params import Params
from ragsmith.pipelines.rag_training.params import RagTrainingParams
from ragsmith.pipelines.retriever_training.params import RetrieverTrainingParams

PIPELINES = (
    "data_collection", "evaluation", "negative_mining", "query_generation", "rag_training", "retriever_training",
    "serving",
)  # fmt: skip
SEEDED = [SplitParams, EvaluationParams, NegativeMiningParams, RagTrainingParams, RetrieverTrainingParams]


def all_params() -> list[type[Params]]:
    modules = [importlib.import_module(f"ragsmith.pipelines.{name}.params") for name in PIPELINES]
    found = {one for one in chain(*(vars(module).values() for module in modules)) if isinstance(one, type)}
    return sorted((one for one in found if issubclass(one, Params)), key=lambda one: one.__name__)


def test_every_seed_is_one_that_numpy_and_pandas_take():
    assert {one for one in all_params() if "seed" in one.model_fields} == set(SEEDED)
    for one in SEEDED:
        assert one.model_validate({"seed": 2**32 - 1}).seed == 2**32 - 1
        for seed in (2**32, -1):
            with pytest.raises(ValidationError, match="seed"):
                one.model_validate({"seed": seed})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_number_may_be_infinite_or_none_at_all(value):
    checked = 0
    for one in all_params():
        for name, field in one.model_fields.items():
            if "float" not in str(field.annotation):
                continue
            given = [value] if "list" in str(field.annotation) else value
            with pytest.raises(ValidationError, match="finite number"):
                one.model_validate({name: given})
            checked += 1
    assert checked > 30
