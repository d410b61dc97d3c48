"""Weights of linear layers, in the precision that is computed in."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def weight_and_bias(layers: "list[Any]", dtype: "torch.dtype") -> "tuple[torch.Tensor, torch.Tensor | None]":
    """Weight and bias of several linear layers over the same input, as of one layer; gradients flow to their own.

    A layer that carries LoRA adapters (Hu et al. 2021) counts with them: W + scaling · B A.

    Args:
        layers: `torch.nn.Linear`, or peft's wrapper of one.
        dtype: of what is returned.
    """
    import torch

    weights = [effective_weight(layer).to(dtype) for layer in layers]
    biases = [layer.bias for layer in layers]
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
        variants = {**getattr(layer, "lora_variant", {}), **getattr(layer, "lora_bias", {})}
        dropouts = getattr(layer, "lora_dropout", {})
        dropped = any(getattr(dropouts[name], "p", 0) for name in dropouts)
        if not hasattr(layer, "lora_A") or not layer.lora_A or any(variants.values()) or dropped:
            return False
    return True
