import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense
from sentence_transformers.sentence_transformer.modules import CNN, Normalize, Pooling

from ragsmith.compute.device import Machine
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.models import resolve_model
from ragsmith.retrieve.packed.bert import ROWS_AT_ONCE
from ragsmith.retrieve.tower import Tower

Make = Callable[..., SentenceTransformer]
KINDS = ["bert", "roberta", "xlm-roberta", "camembert", "mpnet", "modernbert"]
HIDDEN, POSITIONS = 32, 96  # of the models that `make` makes
WORDS = "how much space is left on the disk where a directory holds files and links of other users today".split()
# Of many lengths and in no order; some are longer than ModernBERT's window and MPNet's last bucket of distances.
TEXTS = [
    "how much space is left",
    "",
    " ".join(WORDS * 4),
    "disk",
    "where is the <pad> of a directory",
    " ".join(WORDS[::-1] * 9),
    "links and files",
    "unknown ünïcode 漢字",
    "how much space is left",
    " ".join(WORDS),
]
CPU, HALF = Machine("cpu", "fp32"), Machine("cpu", "bf16")


def cosines(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    return (one * two).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)


def padded(model: SentenceTransformer, texts: list[str]) -> torch.Tensor:
    """The vectors of one batch as sentence-transformers computes it, with gradients."""
    features = model.preprocess(texts)
    return torch.nn.functional.normalize(model(features)["sentence_embedding"], dim=1)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_computes_what_it_computes_with_padding(kind: str, make: Make) -> None:
    model = make(kind)
    encoder = Encoder(model, CPU, batch_tokens=150)
    assert encoder.towers["query"].backbone is not None
    assert cosines(encoder.encode(TEXTS, "query"), model.encode(TEXTS)).min() >= 0.99999


@pytest.mark.parametrize("kind", ["bert", "mpnet"])
def test_batch_of_more_rows_than_go_through_a_layer_at_once_is_computed_like_the_smaller_ones(
    kind: str, make: Make
) -> None:
    encoder, texts = Encoder(make(kind), CPU, batch_tokens=8 * ROWS_AT_ONCE), TEXTS * 6
    token_ids = encoder.token_ids(texts, "query")
    assert len(encoder.batches(token_ids, "query")) == 1 and sum(map(len, token_ids)) > ROWS_AT_ONCE + 128
    assert cosines(encoder.encode(texts, "query"), encoder.model.encode(texts)).min() >= 0.99999


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_in_bf16_stays_close_to_fp32(kind: str, make: Make) -> None:
    model = make(kind, initializer_range=0.1)
    assert cosines(Encoder(model, HALF).encode(TEXTS, "query"), model.encode(TEXTS)).min() >= 0.9995


def test_the_real_model_in_bf16_stays_close_to_fp32() -> None:
    encoder = Encoder.load(resolve_model("package:all-MiniLM-L6-v2"), HALF)
    assert cosines(encoder.encode(TEXTS, "query"), encoder.model.encode(TEXTS)).min() >= 0.9995


@pytest.mark.parametrize("mode", ["cls", "mean", "max", "lasttoken", "weightedmean", "mean_sqrt_len_tokens"])
@pytest.mark.parametrize("include", [True, False])
def test_each_pooling_and_the_modules_behind_it_are_the_model_s_own(mode: Any, include: bool, make: Make) -> None:
    torch.manual_seed(2)
    pooling = Pooling(HIDDEN, mode, include_prompt=include)
    model = make("bert", [pooling, Dense(HIDDEN, 24), Normalize()])
    model.prompts = {"query": "query: ", "document": "passage: "}
    encoder = Encoder(model, CPU)
    assert cosines(encoder.encode(TEXTS, "query"), model.encode_query(TEXTS)).min() >= 0.99999
    assert cosines(encoder.encode(TEXTS, "passage"), model.encode_document(TEXTS)).min() >= 0.99999
    with_other_prompt = cosines(encoder.encode(TEXTS, "query"), encoder.encode(TEXTS, "passage"))
    assert with_other_prompt[0] < 0.99999


def test_several_poolings_side_by_side_are_computed(make: Make) -> None:
    model = make("roberta", [Pooling(HIDDEN, ("cls", "mean", "max"))])
    encoder = Encoder(model, CPU)
    vectors = encoder.encode(TEXTS, "query")
    assert vectors.shape[1] == encoder.dimension == 3 * HIDDEN
    assert cosines(vectors, model.encode(TEXTS)).min() >= 0.99999


def test_the_default_prompt_is_used_for_what_has_no_prompt_of_its_own(make: Make) -> None:
    model = make("bert", [Pooling(HIDDEN, "mean", include_prompt=False)])
    model.prompts, model.default_prompt_name = {"other": "query: "}, "other"
    encoder = Encoder(model, CPU)
    assert encoder.transformer("passage").prompt_tokens(encoder.prompt("passage")) == 3  # <s> query :
    assert cosines(encoder.encode(TEXTS, "passage"), model.encode(TEXTS)).min() >= 0.99999
    assert cosines(encoder.encode(TEXTS, "query"), model.encode_query(TEXTS)).min() >= 0.99999


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_all_parameters_are_those_of_the_padded_computation(kind: str, make: Make) -> None:
    model = make(kind)
    encoder = Encoder(model, CPU)
    torch.manual_seed(3)
    weights = torch.randn(len(TEXTS), HIDDEN)
    (padded(model, TEXTS) * weights).sum().backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    (encoder.forward(encoder.token_ids(TEXTS, "query"), "query") * weights).sum().backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    if kind == "mpnet":
        assert "0.model.encoder.relative_attention_bias.weight" in found
    whole = torch.cat([gradient.flatten() for gradient in expected.values()]).norm()
    for name, gradient in expected.items():
        if gradient.norm() < 1e-5 * whole:  # of a key's bias: zero but for rounding
            assert found[name].norm() < 1e-4 * whole, name
        else:
            assert torch.cosine_similarity(found[name].flatten(), gradient.flatten(), dim=0) >= 0.9999, name
            assert found[name].norm() == pytest.approx(float(gradient.norm()), rel=1e-3), name


@pytest.mark.parametrize("kind", ["bert", "mpnet", "modernbert"])
def test_training_with_dropout_repeats_with_its_seed_and_has_the_right_mean(kind: str, make: Make) -> None:
    model = make(kind, dropout=0.1, initializer_range=0.1)
    encoder = Encoder(model, CPU)
    token_ids = encoder.token_ids(TEXTS[:4], "query")

    def drawn(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return encoder.forward(token_ids, "query").detach()

    model.train()
    first, again, other = drawn(1), drawn(1), drawn(2)
    assert torch.equal(first, again) and not torch.equal(first, other)
    mean = torch.stack([drawn(seed) for seed in range(300)]).mean(0)
    model.eval()
    assert torch.cosine_similarity(mean, encoder.forward(token_ids, "query").detach()).min() > 0.98


# peft 0.21 asks transformers 5 for a name that it calls deprecated.
PEFT_ASKS = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@PEFT_ASKS
@pytest.mark.parametrize("switch", ["active", "disabled", "merged", "bias"])
def test_lora_adapters_count_as_peft_counts_them(switch: str, make: Make) -> None:
    peft = pytest.importorskip("peft")
    model = make("bert")
    base = model.encode(TEXTS)
    bias = "lora_only" if switch == "bias" else "none"
    config = peft.LoraConfig(
        r=4, lora_alpha=16, target_modules=["query", "value", "dense"], bias=bias, lora_dropout=0.0
    )
    wrapped = peft.get_peft_model(model[0].auto_model, config)
    torch.manual_seed(4)
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(std=0.2)
    model[0].model = wrapped
    if switch == "merged":
        wrapped.merge_adapter()
    if switch == "disabled":
        wrapped.base_model.disable_adapter_layers()
    vectors = Encoder(model, CPU).encode(TEXTS, "query")
    theirs = model.encode(TEXTS)
    assert Encoder(model, CPU).towers["query"].backbone is not None
    assert cosines(vectors, theirs).min() >= 0.99999
    assert bool(cosines(base, theirs).min() < 0.99) == (switch != "disabled")


@PEFT_ASKS
@pytest.mark.parametrize("kind", ["dora", "dropout", "ia3"])
def test_adapters_that_are_more_than_a_sum_are_computed_with_padding(kind: str, make: Make) -> None:
    peft = pytest.importorskip("peft")
    configs = {
        "dora": lambda: peft.LoraConfig(target_modules=["query"], use_dora=True),
        "dropout": lambda: peft.LoraConfig(target_modules=["query"], lora_dropout=0.1),
        "ia3": lambda: peft.IA3Config(target_modules=["query"], feedforward_modules=[]),
    }
    model = make("bert")
    model[0].model = peft.get_peft_model(model[0].auto_model, configs[kind]())
    encoder = Encoder(model, CPU)
    assert encoder.towers["query"].backbone is None
    assert cosines(encoder.encode(TEXTS, "query"), model.encode(TEXTS)).min() >= 0.99999


@PEFT_ASKS
def test_only_the_adapter_of_a_lora_model_gets_gradients(make: Make) -> None:
    peft = pytest.importorskip("peft")
    model = make("bert")
    config = peft.LoraConfig(r=4, target_modules=["query", "value"])
    model[0].model = peft.get_peft_model(model[0].auto_model, config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.2)
    (padded(model, TEXTS)[:, 0]).sum().backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    encoder = Encoder(model, CPU)
    encoder.forward(encoder.token_ids(TEXTS, "query"), "query")[:, 0].sum().backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys() and all("lora_" in name for name in found)
    for name, gradient in expected.items():
        assert torch.cosine_similarity(found[name].flatten(), gradient.flatten(), dim=0) >= 0.9999, name


def test_a_kind_without_a_packed_computation_is_padded_and_the_log_says_so(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    model = make("distilbert")
    with caplog.at_level(logging.WARNING):
        encoder = Encoder(model, CPU, batch_tokens=150)
    assert encoder.towers["query"].backbone is None and "DistilBertModel" in caplog.text and "padding" in caplog.text
    assert cosines(encoder.encode(TEXTS, "query"), model.encode(TEXTS)).min() >= 0.99999


def test_a_module_that_looks_at_neighbours_is_computed_with_padding(make: Make) -> None:
    torch.manual_seed(5)
    model = make("bert", [CNN(HIDDEN, out_channels=8), Pooling(24, "mean")])
    encoder = Encoder(model, CPU, batch_tokens=1)  # what it computes depends on the padding
    assert encoder.towers["query"].backbone is None
    one_by_one = np.concatenate([model.encode([text]) for text in TEXTS])
    assert cosines(encoder.encode(TEXTS, "query"), one_by_one).min() >= 0.99999


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_the_side_of_the_padding_makes_no_difference(side: str, kind: str, make: Make) -> None:
    model = make(kind, settings={"padding_side": side, "truncation_side": side})
    # sentence-transformers lets BERT's positions begin with the padding: the true vectors are those without any.
    one_by_one = np.concatenate([model.encode([text]) for text in TEXTS])
    assert cosines(Encoder(model, CPU).encode(TEXTS, "query"), one_by_one).min() >= 0.99999


@pytest.mark.parametrize(
    ("kind", "places"), [("bert", POSITIONS), ("roberta", POSITIONS - 2), ("mpnet", POSITIONS - 2)]
)
@pytest.mark.parametrize("limit", [None, 500])
def test_texts_are_cut_where_the_model_s_positions_end(kind: str, places: int, limit: int | None, make: Make) -> None:
    model = make(kind, settings={"model_max_length": 10**30} if limit is None else {"model_max_length": limit})
    model.max_seq_length = limit
    encoder = Encoder(model, CPU)
    assert encoder.max_tokens == places
    vectors = encoder.encode(TEXTS, "query")
    model.max_seq_length = places
    assert max(len(ids) for ids in encoder.token_ids(TEXTS, "query")) == places
    assert cosines(vectors, model.encode(TEXTS)).min() >= 0.99999


def test_model_whose_tokenizer_gives_other_token_types_is_computed_by_sentence_transformers(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    from tokenizers.processors import TemplateProcessing

    model = make("bert")
    model.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s>:1 $A:1 </s>:1", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    assert isinstance(Encoder(model, CPU).towers["query"], Tower)  # the model is not given the types
    model.tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    with caplog.at_level(logging.WARNING, logger="ragsmith"):
        encoder = Encoder(model, CPU)
    assert "single text the types [1, 1, 1]" in caplog.text and "by sentence-transformers itself" in caplog.text
    model.max_seq_length = encoder.max_tokens
    theirs = model.encode(TEXTS)
    assert cosines(encoder.encode(TEXTS, "query"), theirs).min() >= 0.99999
    # The types count: as ours computes it, the vectors would be others.
    ours = Tower(list(model), CPU)
    assert cosines(ours.forward(ours.token_ids(TEXTS)).detach().numpy(), theirs).max() < 0.9999
