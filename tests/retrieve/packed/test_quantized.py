import numpy as np
import pytest
import torch

from ragsmith.compute.device import Machine
from ragsmith.retrieve import tower
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.models import resolve_model
from ragsmith.retrieve.packed.linear import int8_product
from ragsmith.retrieve.packed.quantized import has_int8

needs_int8 = pytest.mark.skipif(not has_int8(), reason="this processor has no instructions for int8")
HALF, WHOLE = Machine("cpu", "bf16"), Machine("cpu", "bf16", int8=True)


@needs_int8
@pytest.mark.parametrize("shift", [0.0, 3.0, -3.0])
@pytest.mark.parametrize("name", ["", "gelu", "silu"])
def test_a_product_in_int8_is_close_to_the_exact_one(shift: float, name: str) -> None:
    torch.manual_seed(0)
    layer, values = torch.nn.Linear(64, 48), torch.randn(20, 64) + shift
    activation = {"": None, "gelu": torch.nn.functional.gelu, "silu": torch.nn.functional.silu}[name]
    with torch.inference_mode():
        exact = layer(values) if activation is None else activation(layer(values))
        found = int8_product([layer], None, activation, name)(values.bfloat16()).float()
    assert torch.cosine_similarity(found.flatten(), exact.flatten(), dim=0) > 0.999


@needs_int8
@pytest.mark.parametrize("has_bias", [True, False])
def test_a_channel_that_reaches_far_takes_no_precision_from_the_others(has_bias: bool) -> None:
    torch.manual_seed(0)
    layer, norm = torch.nn.Linear(64, 48), torch.nn.LayerNorm(64, bias=has_bias)
    with torch.inference_mode():
        norm.weight[3] *= 40
        if has_bias:
            norm.bias[5] += 60
        layer.weight[:, 3] /= 40
        values = norm(torch.randn(200, 64)).bfloat16()
        exact = layer(values.float())
        even, plain = (int8_product([layer], given)(values).float() for given in (norm, None))
    assert (even - exact).norm() < (plain - exact).norm() / 3
    assert torch.cosine_similarity(even.flatten(), exact.flatten(), dim=0) > 0.999


@needs_int8
def test_vectors_in_int8_keep_their_neighbours_and_have_a_key_of_their_own() -> None:
    folder = resolve_model("package:all-MiniLM-L6-v2")
    exact, whole = Encoder.load(folder, HALF), Encoder.load(folder, WHOLE)
    texts = [f"The {animal} {verb}." for animal in ("cat", "stock market", "engine") for verb in ("sleeps", "falls")]
    one, two = exact.encode(texts, "passage"), whole.encode(texts, "passage")
    assert (one * two).sum(1).min() > 0.97 and not np.array_equal(one, two)
    assert np.array_equal((two @ one.T).argmax(1), np.arange(len(texts)))
    assert exact.identity("passage") != whole.identity("passage")


@pytest.mark.parametrize("lacking", ["instructions", "packed computation"])
def test_int8_that_cannot_be_had_is_said_in_one_line(
    lacking: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tower, "has_int8", lambda: lacking != "instructions")
    if lacking == "packed computation":
        monkeypatch.setattr(tower, "packed_backbone", lambda model: None)
    folder = resolve_model("random:bert-2x64")
    with caplog.at_level("WARNING", logger="ragsmith"):
        encoder, plain = Encoder.load(folder, WHOLE), Encoder.load(folder, HALF)
    (message,) = [line for line in caplog.messages if "int8" in line]
    assert lacking in message and message.endswith("encoding is in bf16.")
    assert encoder.identity("query") == plain.identity("query")


def test_int8_changes_nothing_where_gradients_flow() -> None:
    folder = resolve_model("package:all-MiniLM-L6-v2")
    exact, whole = Encoder.load(folder, HALF), Encoder.load(folder, WHOLE)
    ids = exact.token_ids(["a text"], "query")
    assert torch.equal(exact.forward(ids, "query"), whole.forward(ids, "query"))
