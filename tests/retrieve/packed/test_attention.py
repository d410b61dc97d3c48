import pytest
import torch

from ragsmith.retrieve.packed import attention as module
from ragsmith.retrieve.packed.attention import attention
from ragsmith.retrieve.packed.layout import Layout

HEADS, WIDTH = 2, 8
LENGTHS = (9, 4, 4, 4, 1)


def reference(qkv: torch.Tensor, lengths: tuple[int, ...], scale: float, bias: torch.Tensor | None) -> torch.Tensor:
    """Sequence by sequence, as the formula says."""
    outs = []
    for part in qkv.split(lengths):
        queries, keys, values = part.permute(1, 2, 0, 3)
        scores = queries @ keys.transpose(1, 2) * scale
        if bias is not None:
            scores = scores + bias[:, : len(part), : len(part)]
        outs.append((scores.softmax(-1) @ values).transpose(0, 1).flatten(1))
    return torch.cat(outs)


@pytest.fixture
def qkv() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(sum(LENGTHS), 3, HEADS, WIDTH, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("of_heads", [0, 1, HEADS])
def test_attention_and_its_gradients_follow_the_formula(of_heads: int, qkv: torch.Tensor) -> None:
    bias = torch.randn(of_heads, 9, 9, dtype=torch.float64, requires_grad=True) if of_heads else None
    inputs = [qkv] if bias is None else [qkv, bias]
    weights = torch.randn(sum(LENGTHS), HEADS * WIDTH, dtype=torch.float64)
    ours, formula = attention(qkv, Layout(LENGTHS), 0.3, bias), reference(qkv, LENGTHS, 0.3, bias)
    torch.testing.assert_close(ours, formula)
    found = torch.autograd.grad((ours * weights).sum(), inputs)
    expected = torch.autograd.grad((formula * weights).sum(), inputs)
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("factor", [1.0, 30.0, 1000.0])
def test_attention_without_a_graph_follows_the_formula_for_products_of_any_size(
    dtype: torch.dtype, factor: float, qkv: torch.Tensor
) -> None:
    values = qkv.detach().clone()
    values[:, :2] *= factor
    values = values.to(dtype)
    with torch.inference_mode():
        found = attention(values, Layout(LENGTHS), 0.3).float()
    expected = reference(values.float(), LENGTHS, 0.3, None)
    assert found.isfinite().all()
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.03 if dtype == torch.bfloat16 else 1e-4)


@pytest.mark.parametrize("factor", [1.0, 6.0, 30.0, 1000.0])
@pytest.mark.parametrize("opposed", [False, True])
def test_gradients_follow_the_formula_for_products_of_any_size(
    factor: float, opposed: bool, qkv: torch.Tensor
) -> None:
    values = qkv.detach().clone()
    values[:, :2] *= factor
    if opposed:  # all products far below 0: nothing of the exponentials but what stands behind the shorter sequences
        values[:, 1] = -factor * values[:, 0].mean(0, keepdim=True)
        values[:, 0] = values[:, 0].mean(0, keepdim=True) + 0.01 * qkv.detach()[:, 0]
    weights = torch.randn(sum(LENGTHS), HEADS * WIDTH, dtype=torch.float64)

    def gradient(of, dtype):
        inputs = values.to(dtype, copy=True).requires_grad_()
        (of(inputs) * weights.to(dtype)).sum().backward()
        return inputs.grad.double()

    found = gradient(lambda inputs: attention(inputs, Layout(LENGTHS), 0.3), torch.float32)
    expected = gradient(lambda inputs: reference(inputs, LENGTHS, 0.3, None), torch.float64)
    # Keys of a million leave rounding errors in their sums, whoever adds them up.
    plain = gradient(lambda inputs: reference(inputs, LENGTHS, 0.3, None), torch.float32)
    rounding = float((plain - expected).abs().max())
    assert found.isfinite().all()
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-4 * float(expected.abs().max()) + 2 * rounding)


def test_a_group_computed_in_parts_gives_the_same(qkv: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = attention(qkv, Layout(LENGTHS), 0.3)
    monkeypatch.setattr(module, "SCORES_AT_ONCE", 1)
    torch.testing.assert_close(attention(qkv, Layout(LENGTHS), 0.3), whole)


def test_the_gradient_with_dropout_is_that_of_the_weights_that_were_kept(qkv: torch.Tensor) -> None:
    def drawn(values: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(7)  # the same weights are dropped each time
        return attention(values, Layout(LENGTHS), 0.3, None, 0.25)

    assert not torch.allclose(drawn(qkv), attention(qkv, Layout(LENGTHS), 0.3))
    assert torch.autograd.gradcheck(drawn, (qkv,), eps=1e-6, atol=1e-6)


def test_dropout_leaves_the_mean_of_attention_as_it_is(qkv: torch.Tensor) -> None:
    values = qkv.detach()
    torch.manual_seed(8)
    mean = torch.stack([attention(values, Layout(LENGTHS), 0.3, None, 0.25) for _ in range(4000)]).mean(0)
    torch.testing.assert_close(mean, attention(values, Layout(LENGTHS), 0.3), atol=0.06, rtol=0)


def test_no_attention_leaves_its_sequence(qkv: torch.Tensor) -> None:
    out = attention(qkv, Layout(LENGTHS), 0.3)
    (gradient,) = torch.autograd.grad(out[:9].sum(), qkv)
    assert gradient[:9].any() and not gradient[9:].any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch's kernel for packed sequences needs a CUDA card")
@pytest.mark.parametrize("scale", [0.3, 1 / module.LOG2_E])
def test_kernel_for_packed_sequences_on_a_card_follows_the_formula(scale: float) -> None:
    torch.manual_seed(0)
    values = torch.randn(sum(LENGTHS), 3, HEADS, 64, device="cuda", dtype=torch.bfloat16)
    found = attention(values, Layout(LENGTHS, "cuda"), scale).float()
    torch.testing.assert_close(found, reference(values.float(), LENGTHS, scale, None), rtol=0.02, atol=0.03)
