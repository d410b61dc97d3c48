"""What the parameters of the index take, mean and refuse."""

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from ragsmith.pipelines.params import IndexParams
from ragsmith.retrieve.hnsw import LARGEST, SMALLEST
from ragsmith.retrieve.index import IndexSettings

BASE = Path(__file__).parents[2] / "conf/base/parameters.yml"


def test_defaults_of_file_parameters_and_library_are_the_same() -> None:
    written = yaml.safe_load(BASE.read_text("utf-8"))["index"]
    assert IndexParams(**written) == IndexParams() and set(written) == set(IndexParams.model_fields)
    assert IndexParams().settings() == IndexSettings()


@pytest.mark.parametrize("name", sorted(LARGEST))
def test_bounds_are_those_of_the_library(name) -> None:
    for value in (SMALLEST[name], LARGEST[name]):
        assert getattr(IndexParams(**{name: value}).settings().hnsw, name) == value
    for value in (SMALLEST[name] - 1, LARGEST[name] + 1):
        with pytest.raises(ValidationError, match=name):
            IndexParams(**{name: value})


def test_unknown_kind_is_refused_with_the_choices() -> None:
    with pytest.raises(ValidationError, match="'auto', 'flat' or 'hnsw'"):
        IndexParams(kind="ivf")
