"""Products in whole numbers of eight bits, on processors that multiply those faster (AVX512-VNNI, AMX)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


# How much of the unevenness between channels the weights take over. They have a scale per output, and the inputs one
# for all, so the weights bear more than half: on SQuAD's questions .5 loses .002 of nDCG@10, and .65 to .8 nothing.
SMOOTHING = 0.7


@dataclass(frozen=True)
class QuantizedProduct:
    """A linear layer in int8, and what follows it; inference only.

    Weights have a scale per output, inputs one per call, from their range: nothing is calibrated. Where the inputs
    come from a norm, its parameters tell how far each channel reaches, and large channels are evened out against the
    weights (SmoothQuant, Xiao et al. 2023). Inputs are unsigned: with signed ones the operator computes by a slow
    reference.

    Attributes:
        weight: packed for oneDNN.
        scale: of each output, float32, shape (outputs,).
        bias: float32.
        activation: applied to the result; None for none.
        fused: oneDNN's name and kind of the activation, when it has one.
        factor, offset: of each input channel, float32, shape (inputs,): inputs are multiplied and moved by them first.
    """

    weight: "torch.Tensor"
    scale: "torch.Tensor"
    bias: "torch.Tensor | None"
    activation: "Callable[[torch.Tensor], torch.Tensor] | None"
    fused: tuple[str, str]
    factor: "torch.Tensor"
    offset: "torch.Tensor"

    def __call__(self, values: "torch.Tensor") -> "torch.Tensor":
        """Of rows, shape (tokens, inputs); bfloat16."""
        import torch

        even = (values * self.factor).add_(self.offset)
        least, most = torch.aminmax(even)
        low, high = min(float(least), 0.0), max(float(most), 1e-12)
        scale = (high - low) / 255
        zero = round(-low / scale)
        # By way of int8, for which torch has a fast conversion: it has none to uint8.
        signed = even.mul_(1 / scale).add_(zero - 128).round_().clamp_(-128, 127).to(torch.int8)
        whole = signed.view(torch.uint8).bitwise_xor_(128)
        zeros = torch.zeros(len(self.scale), dtype=torch.int32)
        name, kind = self.fused
        result: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
            *(whole, scale, zero, self.weight, self.scale, zeros, self.bias, 1.0, 0, torch.bfloat16, name, [], kind)
        )
        return result if self.activation is None else self.activation(result)


def quantized(
    weight: "torch.Tensor",
    bias: "torch.Tensor | None",
    activation: "Callable[[torch.Tensor], torch.Tensor] | None",
    fused: tuple[str, str] | None,
    norm: Any = None,
) -> QuantizedProduct:
    """A product of float32 weights, shape (outputs, inputs), in int8.

    Args:
        weight, bias: float32.
        activation: applied to the result.
        fused: oneDNN's name of the activation; None where it has none for it.
        norm: the module whose results are multiplied, with `weight` and `bias`.
    """
    import torch

    inputs = weight.shape[1]
    centre, even = torch.zeros(inputs), torch.ones(inputs)
    if getattr(norm, "weight", None) is not None:  # ModernBERT has an identity in the place of its first
        reach = norm.weight.float().abs().clamp_min(1e-6)
        even = reach**SMOOTHING / weight.abs().amax(0).clamp_min(1e-6) ** (1 - SMOOTHING)
        if norm.bias is not None:
            centre = norm.bias.float()
            moved = weight @ centre
            bias = moved if bias is None else bias + moved
    weight = weight * even
    scale = weight.abs().amax(1).clamp_min_(1e-12) / 127
    whole = (weight / scale[:, None]).round_().to(torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(whole, [4096, inputs])
    return QuantizedProduct(
        weight=packed,
        scale=scale,
        bias=bias,
        activation=None if fused else activation,
        fused=fused or ("none", ""),
        factor=1 / even,
        offset=-centre / even,
    )


def has_int8() -> bool:
    """Whether this torch has the operators (they are no public names) and this processor the instructions."""
    import torch

    probes = ("_is_avx512_vnni_supported", "_is_vnni_supported", "_is_amx_tile_supported")
    names = ("qlinear_pointwise", "qlinear_prepack")
    return all(hasattr(torch.ops.onednn, name) for name in names) and any(
        bool(getattr(torch.cpu, probe, bool)()) for probe in probes
    )
