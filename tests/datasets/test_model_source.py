"""A model that a run starts from is named, checked and hashed, and never written."""

import json
import struct
from pathlib import Path

import pytest
from kedro.io import DataCatalog, DatasetError

from ragsmith.datasets import ModelSource

pytest.importorskip("ragsmith.retrieve.models")


@pytest.fixture
def model(tmp_path) -> Path:
    """The smallest folder that is a model: a configuration, a tokenizer and one four-byte tensor."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0\0\0\0")
    return folder


def source(spec: str):
    return DataCatalog.from_config({"base": {"type": "ragsmith.datasets.ModelSource", "spec": spec}})["base"]


def test_model_is_given_as_its_folder_and_hashed_by_its_weights(model):
    base = source(str(model))
    before = base.content_hash()
    assert base.load() == model and base.exists() and before is not None
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    assert base.content_hash() != before


def test_truncated_or_unknown_model_is_an_error_before_the_run(model, tmp_path):
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(DatasetError, match="truncated"):
        source(str(model)).check()
    assert source(str(model)).content_hash() is None
    with pytest.raises(DatasetError, match="No model at"):
        source(str(tmp_path / "missing")).check()


def test_model_is_never_written(model):
    with pytest.raises(DatasetError, match="never written"):
        source(str(model)).save(model)


def test_where_no_model_is_named_there_is_none_and_that_is_known(tmp_path):
    none = ModelSource(spec=None)
    none.check()
    assert none.load() is None and none.content_hash() is not None
    assert none.content_hash() != ModelSource(spec="random:bert-2x64").content_hash()
