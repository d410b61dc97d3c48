import pytest
import torch

from ragsmith.learn.lora import LoraSettings
from ragsmith.read.causal import CausalReader
from ragsmith.read.extractive import ExtractiveReader
from ragsmith.read.new_reader import merged, new_reader
from ragsmith.read.seq2seq import Seq2SeqReader
from ragsmith.retrieve.models import ModelError, resolve_model

VALUES = {"max_tokens": 48, "max_answer_tokens": 6, "template": "{question} | {passage}", "num_beams": 3, "epochs": 1}
NONE = LoraSettings(rank=0)


@pytest.fixture
def encoder_decoder(own_cache):
    return resolve_model("encoder_decoder:random:bert-2x64")


def values_of(reader) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in reader.model.parameters()])


def test_extractive_reader_takes_its_settings_by_name(tiny_model, machine):
    reader = new_reader(tiny_model, "extractive", VALUES, NONE, machine)
    assert isinstance(reader, ExtractiveReader)
    assert (reader.settings.max_tokens, reader.settings.max_answer_tokens) == (48, 6)


@pytest.mark.parametrize("kind", ["rag_token", "rag_sequence", "fid"])
def test_reader_that_writes_takes_its_settings_by_name(encoder_decoder, machine, kind):
    reader = new_reader(encoder_decoder, kind, VALUES, NONE, machine)
    assert isinstance(reader, Seq2SeqReader)
    settings = reader.settings
    assert (settings.kind, settings.max_tokens, settings.max_answer_tokens) == (kind, 48, 6)
    assert settings.template == "{question} | {passage}" and settings.decoding.num_beams == 3


def test_causal_reader_is_a_causal_language_model(tmp_path, tiny_model, machine):
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    tokenizer = AutoTokenizer.from_pretrained(str(tiny_model))
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=1, n_head=2, n_positions=64, eos_token_id=102)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    reader = new_reader(tmp_path, "causal", VALUES, NONE, machine)
    assert isinstance(reader, CausalReader) and reader.settings.kind == "causal"


def test_encoder_cannot_write(tiny_model, machine):
    with pytest.raises(ModelError, match=r"is not .*, and this reader needs one\. Name one under models\.reader"):
        new_reader(tiny_model, "fid", VALUES, NONE, machine)


@pytest.mark.parametrize("kind", ["extractive", "rag_token"])
def test_random_weights_are_of_the_seed_and_not_of_the_base(tiny_model, encoder_decoder, machine, kind):
    base = tiny_model if kind == "extractive" else encoder_decoder
    trained, one, again, other = (
        values_of(new_reader(base, kind, VALUES, NONE, machine, seed)) for seed in (None, 1, 1, 2)
    )
    assert trained.shape == one.shape
    assert torch.equal(one, again) and not torch.equal(one, other) and not torch.equal(one, trained)
    # Drawn as BERT's are: a normal distribution of the configured width.
    assert one.std() == pytest.approx(trained.std().item(), rel=0.1)


def test_drawing_weights_leaves_the_generator_as_it_was(tiny_model, machine):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    new_reader(tiny_model, "extractive", VALUES, NONE, machine, 1)
    assert torch.equal(torch.rand(3), expected)


def test_untrained_adapters_change_nothing_and_are_of_the_seed(encoder_decoder, machine):
    plain = new_reader(encoder_decoder, "rag_token", VALUES, NONE, machine)
    lora = LoraSettings(rank=2)
    one, again = (new_reader(encoder_decoder, "rag_token", VALUES, lora, machine) for _ in range(2))
    assert torch.equal(values_of(one), values_of(again))
    ids = torch.tensor([[101, 2054, 102]])
    logits = [r.model(input_ids=ids, decoder_input_ids=ids).logits for r in (plain, one)]
    torch.testing.assert_close(logits[0], logits[1])
    back = merged(one.model)
    assert type(back) is type(plain.model) and merged(plain.model) is plain.model
