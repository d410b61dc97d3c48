import json

import pytest

from ragsmith.read.base_model import CAUSAL, ENCODER, ENCODER_DECODER, WANTED, model_shape, unfit_base
from ragsmith.retrieve.models import resolve_model


def written(folder, **config):
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        ({"architectures": ["BertModel"]}, ENCODER),
        ({"architectures": ["BertForQuestionAnswering"]}, ENCODER),
        ({"architectures": ["ModernBertForMaskedLM"]}, ENCODER),
        ({"architectures": ["BartForConditionalGeneration"], "is_encoder_decoder": True}, ENCODER_DECODER),
        ({"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True}, ENCODER_DECODER),
        ({"is_encoder_decoder": True}, ENCODER_DECODER),
        ({"architectures": ["LlamaForCausalLM"]}, CAUSAL),
        ({"architectures": ["GPT2LMHeadModel"]}, CAUSAL),
        ({"model_type": "bert"}, ""),
        ({"architectures": None}, ""),
    ],
)
def test_shape_is_read_from_the_configuration(tmp_path, config, shape):
    assert model_shape(written(tmp_path, **config)) == shape


@pytest.mark.parametrize("content", ["{", "[]", "7"])
def test_configuration_that_cannot_be_read_is_not_judged(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    assert model_shape(tmp_path) == "" == unfit_base(tmp_path, "causal")
    assert model_shape(tmp_path / "nowhere") == ""


def test_models_that_are_made_here_have_their_shapes(own_cache):
    assert model_shape(resolve_model("random:bert-2x64")) == ENCODER
    assert model_shape(resolve_model("package:all-MiniLM-L6-v2")) == ENCODER
    assert model_shape(resolve_model("encoder_decoder:random:bert-2x64")) == ENCODER_DECODER


def test_model_of_another_shape_is_unfit_and_the_text_says_what_fits(tiny_model):
    assert unfit_base(tiny_model, "extractive") == "" == unfit_base(tiny_model, "unknown")
    for reader in ("rag_token", "rag_sequence", "fid", "causal"):
        said = unfit_base(tiny_model, reader)
        assert f"reader is {reader}, which is made from {WANTED[reader][0]}" in said
        assert said.endswith("models.reader is an encoder. Name " + WANTED[reader][0] + " under models.reader in "
                             "globals.yml, or set rag_training.reader to extractive.")  # fmt: skip
    other = unfit_base(resolve_model("encoder_decoder:random:bert-2x64"), "extractive")
    assert "set rag_training.reader to rag_token or rag_sequence or fid" in other
