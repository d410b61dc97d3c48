import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, DistilBertConfig, DistilBertForQuestionAnswering
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from ragsmith.compute.device import Machine
from ragsmith.read.examples import ReadingExample
from ragsmith.read.extractive import ExtractiveReader, ReaderSettings
from ragsmith.read.reading import ReadingPassage
from ragsmith.read.span_evidence import span_evidence
from ragsmith.read.span_logits import packed_spans, padded_logits
from ragsmith.retrieve.models import resolve_model

KINDS = ["bert", "roberta", "xlm-roberta", "camembert", "mpnet", "modernbert"]
WITH_TYPES = {"bert"}
CPU, HALF = Machine("cpu", "fp32"), Machine("cpu", "bf16")
LENGTHS = [9, 70, 24, 9, 1, 41]  # the second is longer than ModernBERT's window
Make = Callable[..., Any]


@pytest.fixture
def make() -> Make:
    """A random model for question answering: `make(kind, initializer_range=…)`."""

    def model(kind: str, **settings: Any) -> Any:
        sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
        sizes |= {"max_position_embeddings": 96, "vocab_size": 40, "initializer_range": 0.3}
        special = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "cls_token_id": 0, "sep_token_id": 2}
        if kind == "modernbert":
            sizes |= {"local_attention": 16, "global_attn_every_n_layers": 2}
        config = CONFIG_MAPPING[kind](**{**sizes, **special, **settings})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            made = AutoModelForQuestionAnswering.from_config(config, attn_implementation="eager").eval()
            for name, parameter in made.named_parameters():
                if name.endswith("bias") or "norm" in name.lower():  # as they are made, they are zeros and ones
                    parameter.data.add_(torch.randn_like(parameter) * 0.1)
        return made

    return model


def sequences(kind: str) -> tuple[list[list[int]], list[list[int]] | None]:
    """Token ids of pairs, and which of the two texts each is of."""
    generator = torch.Generator().manual_seed(4)
    ids = [torch.randint(3, 40, (length,), generator=generator).tolist() for length in LENGTHS]
    types = [[int(token > len(one) // 3) for token in range(len(one))] for one in ids]
    return ids, types if kind in WITH_TYPES else None


def transformers_own(model: Any, ids: list[list[int]], types: list[list[int]] | None) -> torch.Tensor:
    """Each sequence alone, and so without any padding, through the model's forward pass."""
    found = []
    for row, one in enumerate(ids):
        features = {"input_ids": torch.tensor([one])}
        if types is not None:
            features["token_type_ids"] = torch.tensor([types[row]])
        output = model(**features)
        found.append(torch.stack([output.start_logits[0], output.end_logits[0]], dim=-1))
    return torch.cat(found)


def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.cosine_similarity(one.detach().flatten(), other.detach().flatten(), dim=0))


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_gives_the_logits_of_transformers(kind: str, make: Make) -> None:
    model = make(kind)
    ids, types = sequences(kind)
    packed = packed_spans(model)
    assert packed is not None
    expected = transformers_own(model, ids, types)
    for ours in (
        packed.logits(ids, types, CPU, packed.weights(CPU)),
        padded_logits(model, ids, types, CPU, padding=1),
    ):
        assert ours.shape == (sum(LENGTHS), 2) and ours.dtype == torch.float32
        assert cosine(ours, expected) >= 0.99999
        assert torch.allclose(ours, expected, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_in_bf16_stays_close_to_fp32(kind: str, make: Make) -> None:
    model = make(kind, initializer_range=0.1)
    ids, types = sequences(kind)
    packed = packed_spans(model)
    assert packed is not None
    assert cosine(packed.logits(ids, types, HALF, packed.weights(HALF)), transformers_own(model, ids, types)) >= 0.999


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_all_parameters_are_those_of_transformers(kind: str, make: Make) -> None:
    model = make(kind)
    ids, types = sequences(kind)
    torch.manual_seed(3)
    weights = torch.randn(sum(LENGTHS), 2)
    (transformers_own(model, ids, types) * weights).sum().backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    packed = packed_spans(model)
    assert packed is not None
    (packed.logits(ids, types, CPU, packed.weights(CPU)) * weights).sum().backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    whole = torch.cat([gradient.flatten() for gradient in expected.values()]).norm()
    for name, gradient in expected.items():
        if gradient.norm() < 1e-5 * whole:  # of a key's bias: zero but for rounding
            assert found[name].norm() < 1e-4 * whole, name
        else:
            assert cosine(found[name], gradient) >= 0.9999, name
            assert found[name].norm() == pytest.approx(float(gradient.norm()), rel=1e-3), name


def test_token_types_tell_the_question_from_the_passage(make: Make) -> None:
    model = make("bert")
    ids, types = sequences("bert")
    packed = packed_spans(model)
    assert packed is not None and types is not None
    weights = packed.weights(CPU)
    without, zeros = (packed.logits(ids, given, CPU, weights) for given in (None, [[0] * n for n in LENGTHS]))
    assert torch.allclose(without, zeros, atol=1e-6)
    assert not torch.allclose(without, packed.logits(ids, types, CPU, weights), atol=1e-2)


def test_head_that_is_not_known_is_not_computed_packed(make: Make) -> None:
    model = make("bert")
    model.qa_outputs = torch.nn.Sequential(model.qa_outputs)
    assert packed_spans(model) is None
    model.qa_outputs = torch.nn.Linear(32, 3)
    assert packed_spans(model) is None


def test_kind_without_packed_computation_is_told_in_the_log(tiny_model, tmp_path, caplog) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    config = DistilBertConfig(vocab_size=len(tokenizer), dim=32, n_layers=1, n_heads=2, hidden_dim=64)
    model = DistilBertForQuestionAnswering(config)
    with caplog.at_level(logging.WARNING):
        reader = ExtractiveReader(model, tokenizer, ReaderSettings(max_tokens=48), CPU)
    assert reader.packed is None and "DistilBertForQuestionAnswering has no packed computation here" in caplog.text
    caplog.clear()
    assert reader.with_settings(ReaderSettings()).packed is None and not caplog.text


def test_the_real_model_reads_in_bf16_as_it_does_in_fp32_by_transformers() -> None:
    folder = resolve_model("package:all-MiniLM-L6-v2")
    passages = [ReadingPassage(str(n), "The tower was built in 1889 of iron. " * n, 0.0) for n in (1, 3, 6)]
    reader = ExtractiveReader.load(folder, ReaderSettings(), HALF)
    pairs = [reader.encode("When was the tower built?", passage.text) for passage in passages]
    with torch.inference_mode():
        logits = reader.logits(pairs)
        theirs = transformers_own(reader.model.eval(), [p.input_ids for p in pairs], [p.token_type_ids for p in pairs])
    ours = torch.stack(logits, dim=-1)
    inside = torch.isfinite(ours[..., 0])
    readable = torch.tensor([offset is not None for pair in pairs for offset in pair.offsets])
    assert inside.sum() == readable.sum() and cosine(ours[inside], theirs[readable]) >= 0.9995


def batch_gradient(reader: ExtractiveReader, examples: list[ReadingExample]) -> torch.Tensor:
    reader.model.zero_grad()
    reader.model.eval()
    alike = torch.full((len(examples), max(len(example.passages) for example in examples)), -1.0)
    span_evidence(reader, examples, alike)[0].nll.mean().backward()
    return torch.cat([p.grad.flatten() for p in reader.model.parameters() if p.grad is not None])


def test_computing_twice_in_parts_or_with_padding_leaves_the_gradient_as_it_is(reader, found) -> None:
    examples = [
        ReadingExample("delete a tree?", tuple(found), ("shutil.rmtree",), frozenset({"p1"})),
        ReadingExample("square root?", tuple(found[1:]), ("math.sqrt",), frozenset({"p3"})),
    ]
    whole = batch_gradient(reader, examples)
    reader.activation_bytes, reader.micro_tokens = 0, 30
    assert cosine(batch_gradient(reader, examples), whole) >= 0.9999
    reader.packed = None
    padded = batch_gradient(reader, examples)
    assert cosine(padded, whole) >= 0.9999 and float(padded.norm()) == pytest.approx(float(whole.norm()), rel=1e-3)


def test_out_of_memory_lets_go_of_what_is_kept_and_then_reads_in_smaller_parts(reader) -> None:
    reader.micro_tokens = 100
    assert reader.shrink() and (reader.activation_bytes, reader.micro_tokens) == (0, 50)
    assert reader.shrink() and reader.micro_tokens == 48  # the most that a passage has
    assert not reader.shrink()
