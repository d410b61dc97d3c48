from dataclasses import replace

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize

from ragsmith.read.knowledge_base import KnowledgeBase
from ragsmith.read.scratch import random_retriever
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.hnsw import HnswSettings
from ragsmith.retrieve.index import DenseIndex, index_model
from ragsmith.retrieve.models import model_hash
from ragsmith.retrieve.passage_text import passage_inputs


@pytest.fixture
def draw(town_base, machine, tmp_path):
    def make(seed: int, folder: str = "random") -> KnowledgeBase:
        return random_retriever(town_base, machine, 512, seed, tmp_path / folder)

    return make


def weights_in(base: KnowledgeBase, machine) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in Encoder.load(base.retriever, machine).model.parameters()])


def test_untrained_retriever_has_the_shape_and_tokenizer_of_the_base_and_weights_of_the_seed(draw, town_base, machine):
    one, again, other = draw(1), draw(1, "again"), draw(2, "other")
    base, found = weights_in(town_base, machine), weights_in(one, machine)
    assert found.shape == base.shape and not torch.equal(found, base)
    assert torch.equal(found, weights_in(again, machine)) and not torch.equal(found, weights_in(other, machine))
    of_base, of_one = (Encoder.load(folder.retriever, machine) for folder in (town_base, one))
    assert of_base.token_ids(["Ulm is red"], "query") == of_one.token_ids(["Ulm is red"], "query")
    assert [type(module) for module in of_base.model] == [type(module) for module in of_one.model]


def test_layers_behind_the_transformer_are_drawn_anew_too(town_base, machine, tmp_path):
    transformer, pooling, *_ = SentenceTransformer(str(town_base.retriever), device="cpu")
    model = SentenceTransformer(
        modules=[transformer, pooling, Dense(pooling.embedding_dimension, 24), Normalize()], device="cpu"
    )
    model.save(str(tmp_path / "dense"), create_model_card=False)
    base = replace(town_base, retriever=tmp_path / "dense")
    drawn = [random_retriever(base, machine, 512, 1, tmp_path / name).retriever for name in ("random", "again")]
    found, again = (SentenceTransformer(str(folder), device="cpu")[2].linear.weight for folder in drawn)
    assert found.shape == (24, pooling.embedding_dimension) and torch.equal(found, again)
    assert not torch.equal(found, model[2].linear.weight)


def test_its_index_is_made_by_it(draw, town_base, machine):
    base = draw(1)
    assert index_model(base.index) == model_hash(str(base.retriever)) != model_hash(str(town_base.retriever))
    vectors = Encoder.load(base.retriever, machine).encode(passage_inputs(town_base.passages), "passage")
    np.testing.assert_allclose(DenseIndex.load(base.index).vectors, vectors, atol=1e-6)


def test_second_call_takes_what_is_there_unless_it_is_altered_or_of_another_seed(draw, machine):
    base = draw(1)
    weights = base.retriever / "model.safetensors"
    made, content = weights.stat().st_mtime_ns, weights.read_bytes()
    assert draw(1).retriever == base.retriever and weights.stat().st_mtime_ns == made
    weights.write_bytes(content[:-4] + b"\1\2\3\4")
    draw(1)
    assert weights.read_bytes() == content
    draw(2)
    assert weights.read_bytes() != content


def test_its_index_is_of_the_kind_that_the_base_has(town_base, machine, tmp_path):
    graph, flat = HnswSettings(M=4, efSearch=5), DenseIndex.load(town_base.index)
    replace(flat, hnsw=graph, saved=None).save(tmp_path, index_model(town_base.index))
    base = random_retriever(replace(town_base, index=tmp_path), machine, 512, 1, tmp_path / "random")
    assert DenseIndex.load(base.index).hnsw == graph and flat.hnsw is None
