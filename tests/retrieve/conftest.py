"""Models loaded once per test run: a tiny random one, and the real packaged one where its scores matter."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ragsmith.compute.device import Machine
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.models import packaged_model, resolve_model

CPU = Machine("cpu", "fp32")


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """What several threads share is tested here: by themselves, the processes that share the tests have one each."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_model() -> Path:
    return resolve_model("random:bert-2x64")


@pytest.fixture(scope="session")
def tiny_encoder(tiny_model: Path) -> Encoder:
    return Encoder.load(tiny_model, CPU)


@pytest.fixture(scope="session")
def tiny_reranker(tmp_path_factory: pytest.TempPathFactory, own_cache: None) -> Path:
    """A folder with an untrained cross-encoder whose scores are far apart."""
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    folder = tmp_path_factory.mktemp("models") / "reranker"
    tokenizer = AutoTokenizer.from_pretrained(packaged_model("all-MiniLM-L6-v2"))
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=128,
        num_labels=1,
        initializer_range=0.4,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.model_max_length = 128
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def minilm() -> Encoder:
    return Encoder.load(resolve_model("package:all-MiniLM-L6-v2"), CPU)
