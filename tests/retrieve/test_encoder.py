from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from ragsmith.compute.device import Machine
from ragsmith.retrieve.encoder import Encoder, VectorError, load_sentence_transformer
from ragsmith.retrieve.models import resolve_model

TEXTS = [
    "How much space is left?",
    "",
    "  white space \n around\t",
    "Größe 漢字 😀 e\u0301",
    "word " * 600,
    "x" * 300,
    "Return disk usage statistics about the given path.",
]
CPU = Machine("cpu", "fp32")


def cosines(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    return (one * two).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)


@pytest.fixture
def prompted(tiny_model: Path) -> SentenceTransformer:
    model = load_sentence_transformer(tiny_model)
    model.prompts = {"query": "query: ", "document": "passage: "}
    return model


def test_vectors_equal_those_of_sentence_transformers(minilm: Encoder) -> None:
    peer = SentenceTransformer(str(resolve_model("package:all-MiniLM-L6-v2")), device="cpu")
    ours, theirs = minilm.encode(TEXTS, "query"), peer.encode(TEXTS, normalize_embeddings=True)
    assert ours.dtype == np.float32 and ours.shape == (len(TEXTS), 384)
    assert cosines(ours, theirs).min() >= 0.99999


def test_prompts_are_those_of_sentence_transformers(prompted: SentenceTransformer) -> None:
    encoder = Encoder(prompted, CPU)
    queries, passages = encoder.encode(TEXTS, "query"), encoder.encode(TEXTS, "passage")
    assert cosines(queries, prompted.encode_query(TEXTS)).min() >= 0.99999
    assert cosines(passages, prompted.encode_document(TEXTS)).min() >= 0.99999
    assert cosines(queries, passages)[0] < 0.9999


def test_vectors_do_not_depend_on_the_batch_or_the_order(tiny_model: Path, tiny_encoder: Encoder) -> None:
    one_by_one = Encoder.load(tiny_model, CPU, batch_tokens=1)
    vectors = tiny_encoder.encode(TEXTS, "query")
    assert cosines(one_by_one.encode(TEXTS, "query"), vectors).min() >= 0.99999
    assert cosines(tiny_encoder.encode(TEXTS[::-1], "query")[::-1], vectors).min() >= 0.99999
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_texts_are_cut_at_the_limit_and_the_limit_at_the_model_s(tiny_model: Path) -> None:
    assert Encoder.load(tiny_model, CPU).max_tokens == Encoder.load(tiny_model, CPU, max_tokens=9999).max_tokens == 128
    short = Encoder.load(tiny_model, CPU, max_tokens=8)
    ids = short.token_ids(["one two three four five six seven eight nine"], "query")
    assert [len(row) for row in ids] == [8]
    tail = short.encode(["one two three four five six AND", "one two three four five six OR"], "query")
    assert cosines(tail[:1], tail[1:])[0] == pytest.approx(1, abs=1e-6)


def test_batches_hold_each_text_once_and_no_more_tokens_than_allowed(tiny_encoder: Encoder) -> None:
    sequences = [[0] * length for length in (3, 9, 1, 5, 5, 20, 2)]
    batches = tiny_encoder.batches(sequences, "passage", batch_tokens=10)
    assert batches == [[5], [1, 2], [3, 4], [0, 6]]  # 20, 9 + 1, 5 + 5, 3 + 2


def test_no_texts_give_no_rows(tiny_encoder: Encoder) -> None:
    assert tiny_encoder.encode([], "query").shape == (0, tiny_encoder.dimension) == (0, 64)


def test_vectors_that_are_no_numbers_are_told_and_not_cached(tiny_model: Path, tmp_path: Path) -> None:
    encoder = Encoder.load(tiny_model)
    marked = set(encoder.token_ids(["blue"], "passage")[0]) - set(encoder.token_ids(["red fish"], "passage")[0])
    with torch.no_grad():
        encoder.model.get_submodule("0.auto_model").get_input_embeddings().weight[sorted(marked)[0]] = float("nan")
    assert np.isfinite(encoder.encode(["red fish"], "passage")).all()
    with pytest.raises(VectorError, match=r"none .* first of the text 'blue fish': its weights are damaged"):
        encoder.encode(["red fish", "blue fish"], "passage", cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.npy"))


def test_encoding_leaves_a_model_in_training_as_it_was(tiny_model: Path) -> None:
    encoder = Encoder.load(tiny_model, CPU)
    encoder.model.train()
    first, second = encoder.encode(TEXTS, "query"), encoder.encode(TEXTS, "query")
    assert np.array_equal(first, second)  # dropout is off meanwhile
    assert encoder.model.training


def test_gradients_flow_through_a_forward_pass(tiny_model: Path) -> None:
    encoder = Encoder.load(tiny_model, CPU)
    encoder.forward(encoder.token_ids(["a b", "c d e"], "query"), "query")[:, 0].sum().backward()
    parameters = {name: p for name, p in encoder.model.named_parameters() if ".pooler." not in name}  # mean pooling
    assert [name for name, parameter in parameters.items() if parameter.grad is None] == []
    assert all(bool(p.grad.any()) for name, p in parameters.items() if name.endswith("query.weight"))


def test_bf16_vectors_are_unit_vectors_close_to_those_of_fp32(tiny_model: Path, tiny_encoder: Encoder) -> None:
    vectors = Encoder.load(tiny_model, Machine("cpu", "bf16")).encode(TEXTS[:3], "query")
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert cosines(vectors, tiny_encoder.encode(TEXTS[:3], "query")).min() > 0.999


def test_a_model_is_loaded_in_float32(tiny_encoder: Encoder) -> None:
    assert {parameter.dtype for parameter in tiny_encoder.model.parameters()} == {torch.float32}
