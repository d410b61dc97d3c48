"""Weights of linear layers, in the precision that is computed in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ragsmith.retrieve.packed.quantized import QuantizedProduct, quantized

if TYPE_CHECKING:
    import torch

# What oneDNN calls the activations that transformers' configurations name.
ONEDNN_ACTIVATIONS = {
    "gelu": ("gelu", "none"),
    "gelu_new": ("gelu", "tanh"),
    "gelu_pytorch_tanh": ("gelu", "tanh"),
    "relu": ("relu", ""),
}


@dataclass(frozen=True)
class Product:
    """A linear layer, and what follows it, ready to be computed many times.

    Attributes:
        weight, bias: in the precision that is computed in.
        activation: applied to the result; None for none.
        fused: oneDNN's name and kind of the activation, when weight is in oneDNN's own order (see `product`).
    """

    weight: "torch.Tensor"
    bias: "torch.Tensor | None"
    activation: "Callable[[torch.Tensor], torch.Tensor] | None" = None
    fused: tuple[str, str] | None = None

    def __call__(self, values: "torch.Tensor") -> "torch.Tensor":
        """Of rows, shape (tokens, inputs)."""
        import torch

        if self.fused is not None:
            name, kind = self.fused
            return torch.ops.mkldnn._linear_pointwise(values, self.weight, self.bias, name, [], kind)  # type: ignore[no-any-return]
        result = torch.nn.functional.linear(values, self.weight, self.bias)
        return result if self.activation is None else self.activation(result)

    def added_to(self, rest: "torch.Tensor", values: "torch.Tensor", dropout: Any) -> "torch.Tensor":
        """The result, some of it dropped by a dropout module, plus `rest`."""
        import torch

        if self.fused is not None and not dropout.training:
            return torch.ops.mkldnn._linear_pointwise.binary(values, rest, self.weight, self.bias, "add")  # type: ignore[no-any-return]
        return dropout(self(values)) + rest  # type: ignore[no-any-return]


def product(
    layers: "list[Any]",
    dtype: "torch.dtype",
    activation: "Callable[[torch.Tensor], torch.Tensor] | None" = None,
    name: str = "",
    scales: "Sequence[float] | None" = None,
) -> Product:
    """Several linear layers over the same input, as one product.

    In inference mode on a processor, oneDNN computes it with the weights in an order of its own and the activation in
    the same pass: a third of the time of torch's linear and GELU in bfloat16, and in float32 faster than MKL.

    Args:
        layers: `torch.nn.Linear`, or peft's wrapper of one.
        dtype: of the products.
        activation: applied to the result.
        name: of the activation in the model's configuration.
        scales: factor of each layer's result; None leaves them as they are.
    """
    import torch

    weight, bias = weight_and_bias(layers, dtype, scales)
    post = ONEDNN_ACTIVATIONS.get(name) if activation is not None else ("none", "")
    if post is not None and weight.device.type == "cpu" and torch.is_inference_mode_enabled() and has_onednn():
        # The second argument is a usual number of rows; the order that it leads to is right for any.
        weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), 4096)
        return Product(weight, bias, fused=post)
    return Product(weight, bias, activation)


def int8_product(
    layers: "list[Any]",
    norm: Any = None,
    activation: "Callable[[torch.Tensor], torch.Tensor] | None" = None,
    name: str = "",
    scales: "Sequence[float] | None" = None,
) -> QuantizedProduct:
    """The same in eight bits, for inference alone.

    Args:
        layers, activation, name, scales: as of `product`.
        norm: the module whose results are the inputs; None when they come from elsewhere.
    """
    import torch

    weight, bias = weight_and_bias(layers, torch.float32, scales)
    unfused = ("none", "") if activation is None else None
    return quantized(weight, bias, activation, ONEDNN_ACTIVATIONS.get(name, unfused), norm)


def has_onednn() -> bool:
    """Whether this torch has oneDNN and the operators that its own compiler calls it by (they are no public names)."""
    import torch

    names = ("_linear_pointwise", "_reorder_linear_weight")
    there = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    return there and all(hasattr(torch.ops.mkldnn, name) for name in names)


def weight_and_bias(
    layers: "list[Any]", dtype: "torch.dtype", scales: "Sequence[float] | None" = None
) -> "tuple[torch.Tensor, torch.Tensor | None]":
    """Weight and bias of several linear layers over the same input, as of one layer; gradients flow to their own.

    A layer that carries LoRA adapters (Hu et al. 2021) counts with them: W + scaling · B A.

    Args:
        layers: `torch.nn.Linear`, or peft's wrapper of one.
        dtype: of what is returned.
        scales: factor of each layer's result, applied before rounding to `dtype`.
    """
    import torch

    weights = [effective_weight(layer) for layer in layers]
    biases = [layer.bias for layer in layers]
    if scales is not None:
        weights = [weight * scale for weight, scale in zip(weights, scales, strict=True)]
        biases = [None if bias is None else bias * scale for bias, scale in zip(biases, scales, strict=True)]
    weights = [weight.to(dtype) for weight in weights]
    weight = weights[0] if len(weights) == 1 else torch.cat(weights)
    if any(bias is None for bias in biases):
        return weight, None
    return weight, biases[0].to(dtype) if len(biases) == 1 else torch.cat(biases).to(dtype)


def effective_weight(layer: Any) -> "torch.Tensor":
    """The weight that a linear layer multiplies with, its active adapters added."""
    weight: torch.Tensor = layer.weight
    for name in getattr(layer, "active_adapters", ()):
        if name in getattr(layer, "lora_A", {}) and not layer.merged and not layer.disable_adapters:
            weight = weight + layer.scaling[name] * (layer.lora_B[name].weight @ layer.lora_A[name].weight)
    return weight


def adapters_fold(model: Any) -> bool:
    """Whether all adapters in a model are sums that `effective_weight` can add.

    Those that also scale (DoRA, IA³) or drop inputs of their own are not.
    """
    for layer in model.modules():
        if not hasattr(layer, "base_layer"):
            continue
        # `lora_variant` holds what peft computes otherwise than by the sum, such as DoRA.
        variants = [*getattr(layer, "lora_variant", {}).values(), *getattr(layer, "lora_bias", {}).values()]
        dropouts = getattr(layer, "lora_dropout", {})
        dropped = any(getattr(dropouts[name], "p", 0) for name in dropouts)
        if not hasattr(layer, "lora_A") or not layer.lora_A or any(variants) or dropped:
            return False
    return True
