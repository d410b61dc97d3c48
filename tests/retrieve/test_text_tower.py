"""Models that are no transformer of ours: sentence-transformers itself encodes with them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import BoW, Normalize, Pooling, Transformer, WordEmbeddings
from sentence_transformers.sentence_transformer.modules.tokenizer import WhitespaceTokenizer
from static_models import DIMENSION, WORDS, static_folder, static_model, static_module

from ragsmith.compute.device import Machine
from ragsmith.retrieve import encoder as module
from ragsmith.retrieve.build import build_index
from ragsmith.retrieve.encoder import Encoder, load_sentence_transformer
from ragsmith.retrieve.index import DenseIndex
from ragsmith.retrieve.models import check_model_folder
from ragsmith.retrieve.route_files import first_modules
from ragsmith.retrieve.routes import KINDS, Kind, twin
from ragsmith.retrieve.search import Searcher
from ragsmith.retrieve.text_tower import TextTower
from ragsmith.retrieve.tower import Tower

CPU = Machine("cpu", "fp32")
TEXTS = ["How much space is left?", "delete a whole tree", "Größe 漢字 😀", "word " * 60 + "sleep", "copy", "json"]
PROMPTS = {"query": "query: ", "document": "text: "}


def peer(model: SentenceTransformer, kind: Kind, texts: list[str] = TEXTS) -> np.ndarray:
    """What sentence-transformers computes, to unit length."""
    found = model.encode_query(texts) if kind == "query" else model.encode_document(texts)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))


def words_model(limit: int = 1000) -> SentenceTransformer:
    """Vectors of words that are split at spaces, and their mean."""
    vectors = np.random.default_rng(3).normal(size=(len(WORDS) + 1, 8)).astype(np.float32)
    words = WordEmbeddings(WhitespaceTokenizer(["[PAD]", *WORDS], stop_words=["of"]), vectors, max_seq_length=limit)
    return SentenceTransformer(modules=[words, Pooling(8)], device="cpu")


def pooled_model(tiny_model: Path) -> SentenceTransformer:
    """A transformer that gives a vector of the text and none of its tokens, as CLIP's does."""
    ends = {"text": {"method": "forward", "method_output_name": "pooler_output"}}
    first = Transformer(str(tiny_model), modality_config=ends, module_output_name="sentence_embedding")
    return SentenceTransformer(modules=[first, Normalize()], device="cpu")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prompts", [None, PROMPTS], ids=["plain", "prompts"])
def test_vectors_are_those_of_sentence_transformers_at_unit_length(kind: Kind, prompts: dict[str, str] | None) -> None:
    model = static_model(prompts)
    encoder = Encoder(model, Machine("cpu", "bf16", int8=True))
    vectors = encoder.encode(TEXTS, kind)
    assert vectors.dtype == np.float32 and vectors.shape == (len(TEXTS), DIMENSION) == (len(TEXTS), encoder.dimension)
    np.testing.assert_allclose(vectors, peer(model, kind), atol=1e-6)
    assert not np.allclose(np.linalg.norm(model.encode(TEXTS), axis=1), 1, atol=0.1)  # the model's own are not


def test_prompts_are_put_before_the_texts() -> None:
    encoder = Encoder(static_model(PROMPTS), CPU)
    queries, passages = (encoder.encode(TEXTS, kind) for kind in KINDS)
    assert np.abs(queries - passages).max(axis=1).min() > 1e-3
    assert encoder.identity("query") != encoder.identity("passage")


@pytest.mark.parametrize("make", [words_model, lambda: SentenceTransformer(modules=[BoW(WORDS)], device="cpu")])
def test_models_of_whole_words_are_encoded_too(make) -> None:
    model, texts = make(), ["copy a file", "wait for seconds", "the colour of the car"]
    np.testing.assert_allclose(Encoder(model, CPU).encode(texts, "query"), peer(model, "query", texts), atol=1e-6)
    one, other = Encoder(make(), CPU), Encoder(make(), CPU)
    other.model[0].tokenizer.stop_words.add("copy")
    assert one.identity("query") == Encoder(make(), CPU).identity("query") != other.identity("query")


def test_transformer_without_vectors_of_tokens_is_encoded_too(
    tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = pooled_model(tiny_model)
    np.testing.assert_allclose(Encoder(model, CPU).encode(TEXTS, "query"), peer(model, "query"), atol=1e-5)
    assert "begins with a BertModel, which gives no vectors of tokens." in caplog.text


def test_log_says_once_that_sentence_transformers_computes_it(caplog: pytest.LogCaptureFixture) -> None:
    encoder = Encoder(static_model(), Machine("cpu", "fp32", int8=True))
    for kind in KINDS:
        encoder.encode(TEXTS, kind)
    (message,) = caplog.messages
    assert "begins with a StaticEmbedding, which is no transformer." in message
    assert "computed by sentence-transformers itself, in float32" in message


def test_routes_of_both_sorts_are_each_computed_in_their_own_way(tiny_model: Path) -> None:
    torch.manual_seed(0)
    transformer = list(load_sentence_transformer(tiny_model))
    wide = static_module()
    wide.embedding = torch.nn.EmbeddingBag(wide.num_embeddings, 64)
    wide.embedding_dim = 64
    model = twin([wide], transformer, {"query": "query: ", "passage": "text: "})
    encoder = Encoder(model, CPU)
    assert isinstance(encoder.towers["query"], TextTower) and isinstance(encoder.towers["passage"], Tower)
    for kind in KINDS:
        np.testing.assert_allclose(encoder.encode(TEXTS, kind), peer(model, kind), atol=1e-5)
    assert len(encoder.token_ids(["a b"], "passage")[0]) > 2
    with pytest.raises(ValueError, match=r"begins with a StaticEmbedding.*cannot be trained here"):
        encoder.token_ids(["a b"], "query")


def test_rows_are_in_the_order_of_the_texts_over_many_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 4)
    encoder, texts = Encoder(static_model(), CPU), [f"{one} {two}" for one in WORDS[:5] for two in WORDS[5:10]]
    vectors = encoder.encode(texts, "passage")
    np.testing.assert_allclose(vectors, peer(encoder.model, "passage", texts), atol=1e-6)
    blocks = [(first, len(block)) for first, block in encoder.encoded_chunks(texts, "passage")]
    assert blocks == [(first, min(4, 25 - first)) for first in range(0, 25, 4)]


def test_no_texts_give_no_rows_and_a_model_in_training_stays_so() -> None:
    encoder = Encoder(static_model(), CPU)
    encoder.model.train()
    assert encoder.encode([], "query").shape == (0, DIMENSION)
    encoder.encode(TEXTS, "query")
    assert encoder.model.training


def test_texts_are_cut_where_the_model_can_and_the_log_says_where_it_cannot(
    tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long = ["copy a file with its permissions", "copy a tree"]
    for model, limit in ((words_model(), 2), (pooled_model(tiny_model), 4)):  # with [CLS] and [SEP]
        own = model.max_seq_length
        encoder = Encoder(model, CPU, max_tokens=limit)
        vectors = encoder.encode(long, "query")
        np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
        assert not np.allclose(*Encoder(model, CPU).encode(long, "query"), atol=1e-3)
        assert encoder.max_tokens == limit and model.max_seq_length == own > limit  # it is saved with its own
        assert encoder.identity("query") != Encoder(model, CPU).identity("query")
    assert "not cut" not in caplog.text
    model = static_model()
    vectors = Encoder(model, CPU, max_tokens=2).encode(long, "query")
    np.testing.assert_allclose(vectors, peer(model, "query", long), atol=1e-6)
    assert caplog.messages[-1] == "Texts are not cut at 2 tokens: a StaticEmbedding reads them whole."


@pytest.mark.parametrize("change", ["nothing", "weights", "prompt", "tokenizer"])
def test_cached_vectors_are_used_until_the_model_changes(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Encoder(static_model(), CPU).encode(TEXTS, "passage", cache=tmp_path)
    model, seen = static_model(), []
    if change == "weights":
        model[0].embedding.weight.data[3, 0] += 1e-6
    if change == "prompt":
        model.prompts["document"] = "text: "
    if change == "tokenizer":
        model.tokenizer.enable_truncation(3)
    compute = TextTower.vectors
    monkeypatch.setattr(
        TextTower, "vectors", lambda tower, texts, *rest: seen.extend(texts) or compute(tower, texts, *rest)
    )
    vectors = Encoder(model, CPU).encode(TEXTS[::-1], "passage", cache=tmp_path)
    np.testing.assert_allclose(vectors, peer(model, "passage", TEXTS[::-1]), atol=1e-6)
    assert sorted(seen) == ([] if change == "nothing" else sorted(TEXTS))
    assert len(list(tmp_path.iterdir())) == 1


def test_index_is_built_and_searched(tmp_path: Path) -> None:
    folder = static_folder(tmp_path / "model")
    rows = [("p1", "tree", "Delete a whole directory tree."), ("p2", "sqrt", "The square root of a number.")]
    passages = pd.DataFrame(rows, columns=["passage_id", "title", "text"])
    built = build_index(folder, passages, Machine("cpu", "bf16"), 512, tmp_path / "work", "index")
    index = DenseIndex.load(built)
    np.testing.assert_allclose(np.linalg.norm(index.vectors, axis=1), 1, atol=1e-6)
    searcher = Searcher(Encoder.load(folder, CPU), index, passages)
    for mode in ("dense", "hybrid"):
        run = searcher.run(["q1", "q2"], ["how to delete a directory", "root of 9"], 1, mode)
        assert run["passage_id"].tolist() == ["p1", "p2"]


def test_folders_say_which_module_they_begin_with(tmp_path: Path, tiny_model: Path) -> None:
    words_model().save(str(tmp_path / "words"), create_model_card=False)
    twin([static_module()], [static_module()], {}).save(str(tmp_path / "twin"), create_model_card=False)
    for name, expected in (("words", ["WordEmbeddings"]), ("twin", ["StaticEmbedding"] * 2)):
        check_model_folder(tmp_path / name)
        assert first_modules(tmp_path / name) == expected
    assert first_modules(tiny_model) == ["Transformer"]
