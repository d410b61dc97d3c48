"""Models that encode queries and passages apart, in memory."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Router
from twin_models import twin_folder

from ragsmith.compute.device import Machine
from ragsmith.retrieve.encoder import Encoder, load_sentence_transformer
from ragsmith.retrieve.routes import KINDS, Kind, routes, separated, shares_weights

CPU = Machine("cpu", "fp32")
TEXTS = ["How much space is left?", "", "Größe 漢字 😀", "word " * 60, "Return disk usage statistics of a path."]


@pytest.fixture
def model(tmp_path: Path) -> SentenceTransformer:
    return load_sentence_transformer(twin_folder(tmp_path / "twin", prompts={"query": "query: ", "passage": "text: "}))


def cosines(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    return (one * two).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)


def peer(model: SentenceTransformer, kind: Kind) -> np.ndarray:
    """What sentence-transformers computes."""
    found = model.encode_query(TEXTS) if kind == "query" else model.encode_document(TEXTS)
    return np.asarray(found)


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_of_each_route_equal_those_of_sentence_transformers(kind: Kind, model: SentenceTransformer) -> None:
    encoder = Encoder(model, CPU)
    assert all(tower.backbone is not None for tower in encoder.different_towers) and len(encoder.different_towers) == 2
    assert cosines(encoder.encode(TEXTS, kind), peer(model, kind)).min() >= 0.99999
    other = encoder.encode(TEXTS, "passage" if kind == "query" else "query")
    assert cosines(encoder.encode(TEXTS, kind), other).max() < 0.999


@pytest.mark.parametrize("kind", KINDS)
def test_modules_behind_the_router_are_a_part_of_both_routes(kind: Kind, model: SentenceTransformer) -> None:
    torch.manual_seed(3)
    longer = SentenceTransformer(modules=[model[0], Dense(64, 24), Normalize()], prompts=model.prompts, device="cpu")
    encoder = Encoder(longer, CPU)
    vectors = encoder.encode(TEXTS, kind)
    assert vectors.shape[1] == encoder.dimension == 24
    assert cosines(vectors, peer(longer, kind)).min() >= 0.99999


def test_each_route_cuts_at_its_own_limit(model: SentenceTransformer) -> None:
    encoder = Encoder(model, CPU)
    assert [len(encoder.token_ids(["word " * 600], kind)[0]) for kind in KINDS] == [24, 128]
    assert encoder.max_tokens == 128
    shorter = Encoder(model, CPU, max_tokens=30)
    assert [len(shorter.token_ids(["word " * 600], kind)[0]) for kind in KINDS] == [24, 30]


def test_a_model_with_one_encoder_has_one_tower(tiny_encoder: Encoder) -> None:
    assert tiny_encoder.towers["query"] is tiny_encoder.towers["passage"] and len(tiny_encoder.different_towers) == 1
    weights = tiny_encoder.weights()
    assert weights["query"] is weights["passage"]  # converted once


@pytest.mark.parametrize("kind", KINDS)
def test_identity_of_a_kind_knows_its_own_route_alone(kind: Kind, model: SentenceTransformer) -> None:
    encoder = Encoder(model, CPU)
    before = {one: encoder.identity(one) for one in KINDS}
    assert before["query"] != before["passage"]
    with torch.no_grad():
        next(routes(model)[kind][0].parameters())[0, 0] += 1e-6
    assert {one for one in KINDS if encoder.identity(one) != before[one]} == {kind}


def test_vectors_of_passages_are_kept_when_only_the_encoder_of_queries_changes(
    model: SentenceTransformer, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    Encoder(model, CPU).encode(TEXTS, "passage", cache=cache)
    (key,) = cache.iterdir()
    with torch.no_grad():
        next(routes(model)["query"][0].parameters()).add_(1.0)
    Encoder(model, CPU).encode(TEXTS, "passage", cache=cache)
    assert list(cache.iterdir()) == [key]
    with torch.no_grad():
        next(routes(model)["passage"][0].parameters()).add_(1.0)
    Encoder(model, CPU).encode(TEXTS, "passage", cache=cache)
    assert list(cache.iterdir()) != [key]


# --- a copy for queries ---


def test_copy_for_queries_gives_the_same_vectors_and_leaves_passages_their_weights(tiny_model: Path) -> None:
    model = load_sentence_transformer(tiny_model)
    model.prompts = {"query": "query: ", "document": "text: "}
    own, apart = Encoder(model, CPU), Encoder(separated(model), CPU)
    assert shares_weights(model) and not shares_weights(apart.model)
    for kind in KINDS:
        assert apart.prompt(kind) == own.prompt(kind)
        np.testing.assert_array_equal(apart.encode(TEXTS, kind), own.encode(TEXTS, kind))
    with torch.no_grad():
        for parameter in apart.towers["query"].module.parameters():
            parameter.mul_(0.5)
    np.testing.assert_array_equal(apart.encode(TEXTS, "passage"), own.encode(TEXTS, "passage"))
    assert not np.allclose(apart.encode(TEXTS, "query"), own.encode(TEXTS, "query"), atol=1e-3)


def test_routes_without_a_weight_in_common_are_left_as_they_are(model: SentenceTransformer) -> None:
    assert separated(model) is model


def test_routes_with_a_layer_in_common_are_taken_apart(model: SentenceTransformer) -> None:
    torch.manual_seed(3)
    shared = SentenceTransformer(modules=[model[0], Dense(64, 24)], prompts=model.prompts, device="cpu")
    assert shares_weights(shared)
    apart = separated(shared)
    assert not shares_weights(apart)
    for kind in KINDS:
        np.testing.assert_allclose(peer(apart, kind), peer(shared, kind), atol=1e-6)


# --- what is refused ---


def test_router_without_a_route_for_documents_is_refused_with_the_routes_it_has(model: SentenceTransformer) -> None:
    found = routes(model)
    other = SentenceTransformer(modules=[Router({"query": found["query"], "image": found["passage"]})], device="cpu")
    with pytest.raises(ValueError, match=r"routes are query, image\. .* query and document, .*for_query_document"):
        Encoder(other, CPU)


def test_router_that_looks_at_more_than_the_task_is_refused(model: SentenceTransformer) -> None:
    found = routes(model)
    router = Router(
        {"query": found["query"], "document": found["passage"]}, route_mappings={("query", "text"): "document"}
    )
    with pytest.raises(ValueError, match="chosen by mappings"):
        Encoder(SentenceTransformer(modules=[router], device="cpu"), CPU)


def test_routes_whose_vectors_differ_in_length_are_refused(tmp_path: Path) -> None:
    folder = twin_folder(tmp_path / "twin", queries="random:bert-1x32")
    with pytest.raises(ValueError, match="queries in 32 dimensions and passages in 64"):
        Encoder.load(folder, CPU)
