"""Low-rank adapters on a bi-encoder: a few per cent of the weights are trained."""

import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ragsmith.learn.checkpoints import weights
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.routes import KINDS

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


def check_adapters(rank: int, name: str = "lora.rank") -> None:
    """Return when there is what adapters of this rank need; before any work begins.

    Args:
        rank: of `LoraSettings`.
        name: of the setting, for the message.
    Raises:
        ModuleNotFoundError: peft is not installed; the message has the command.
    """
    if rank and find_spec("peft") is None:
        raise ModuleNotFoundError(
            f"{name} is {rank}, which needs peft. Run: pip install 'ragsmith[lora]', or set {name} to 0."
        )


def add_adapters(encoder: Encoder, settings: LoraSettings, seed: int) -> None:
    """Put untrained adapters on an encoder's transformers and freeze the rest; its vectors stay the same.

    The rest is also what stands behind the transformer, such as a `Dense` layer.

    Raises:
        ModuleNotFoundError: peft is not installed.
        ValueError: no layer of these names.
    """
    for kind in KINDS:  # the same tower twice, of most models
        tower = encoder.transformer(kind)
        first: Any = tower.modules[0]
        if not hasattr(first.auto_model, "merge_adapter"):  # routes may have their transformer in common
            first.model = with_adapters(first.auto_model, settings, seed)
        for module in tower.modules[1:]:
            module.requires_grad_(False)
        tower.find_backbone()


def with_adapters(model: "PreTrainedModel", settings: LoraSettings, seed: int) -> Any:
    """A transformers model with untrained adapters and all else frozen; what it computes is the same.

    Raises:
        ModuleNotFoundError: peft is not installed.
        ValueError: no layer of these names.
    """
    import torch

    check_adapters(settings.rank)
    from peft import LoraConfig, get_peft_model

    targets = settings.targets if isinstance(settings.targets, str) else list(settings.targets)
    config = LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, lora_dropout=0.0, bias="none", target_modules=targets
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # peft asks for a property that transformers has renamed.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        # GPT-2's layers hold their weights the other way round: peft sees that, and sets it right for each.
        warnings.filterwarnings("ignore", "fan_in_fan_out is set to False", UserWarning)
        torch.manual_seed(seed)
        return get_peft_model(model, config)


def merged_weights(encoder: Encoder) -> "dict[str, torch.Tensor]":
    """The state dict of the model without adapters, and with what they learned; of a plain model, its own."""
    transformers = [encoder.transformer(kind).transformer for kind in KINDS]
    adapted = {id(transformer): transformer for transformer in transformers}
    if not all(hasattr(transformer, "merge_adapter") for transformer in adapted.values()):
        return weights(encoder.model)
    for transformer in adapted.values():
        transformer.merge_adapter()
    found = {
        name.replace(".base_model.model.", ".", 1).replace(".base_layer.", "."): tensor
        for name, tensor in weights(encoder.model).items()
        if ".lora_" not in name
    }
    for transformer in adapted.values():
        transformer.unmerge_adapter()
    return found
