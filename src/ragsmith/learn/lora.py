"""Low-rank adapters on a bi-encoder: a few per cent of the weights are trained."""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ragsmith.learn.checkpoints import weights
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.packed import packed_backbone

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class LoraSettings:
    """Which adapters are trained (Hu et al. 2021).

    Attributes:
        rank: of each adapter; 0 trains all weights and no adapter.
        alpha: the adapters' product counts alpha / rank.
        targets: names of the linear layers that get one, or `all-linear`.
    """

    rank: int = 0
    alpha: int = 32
    targets: str | tuple[str, ...] = "all-linear"


def add_adapters(encoder: Encoder, settings: LoraSettings, seed: int) -> None:
    """Put untrained adapters on an encoder's transformer and freeze the rest; its vectors stay the same.

    Raises:
        ModuleNotFoundError: peft is not installed.
        ValueError: the model has no transformer, or no layer of these names.
    """
    first: Any = encoder.model[0]
    if not hasattr(first, "auto_model"):
        raise ValueError(f"lora.rank is above 0, but {type(first).__name__} is no transformer: set it to 0.")
    first.model = with_adapters(first.auto_model, settings, seed)
    encoder.backbone = packed_backbone(first.model)


def with_adapters(model: "PreTrainedModel", settings: LoraSettings, seed: int) -> Any:
    """A transformers model with untrained adapters and all else frozen; what it computes is the same.

    Raises:
        ModuleNotFoundError: peft is not installed.
        ValueError: no layer of these names.
    """
    import torch

    try:
        from peft import LoraConfig, get_peft_model
    except ModuleNotFoundError as error:
        message = "lora.rank is above 0, which needs peft. Run: pip install 'ragsmith[lora]'"
        raise ModuleNotFoundError(message) from error
    targets = settings.targets if isinstance(settings.targets, str) else list(settings.targets)
    config = LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, lora_dropout=0.0, bias="none", target_modules=targets
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # peft asks for a property that transformers has renamed.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        torch.manual_seed(seed)
        return get_peft_model(model, config)


def merged_weights(encoder: Encoder) -> "dict[str, torch.Tensor]":
    """The state dict of the model without adapters, and with what they learned; of a plain model, its own."""
    inner: Any = getattr(encoder.model[0], "auto_model", None)
    if not hasattr(inner, "merge_adapter"):
        return weights(encoder.model)
    inner.merge_adapter()
    found = {
        name.replace(".base_model.model.", ".", 1).replace(".base_layer.", "."): tensor
        for name, tensor in weights(encoder.model).items()
        if ".lora_" not in name
    }
    inner.unmerge_adapter()
    return found
