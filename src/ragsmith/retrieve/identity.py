"""What decides the vectors of a model in memory, as one hash."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# Where a model was read from, in its configuration and in that of its adapters.
PLACES = frozenset({"_name_or_path", "base_model_name_or_path"})


def modules_identity(modules: "Sequence[torch.nn.Module]", tokenizer: Any) -> str:
    """Hexadecimal sha256 over weights, configuration and tokenizer of modules as they are now.

    It is read from memory and not from a folder: a model in training changes and its folder does not.

    Args:
        modules: those that a text goes through, in order.
        tokenizer: of the first one.
    """
    total = hashlib.sha256()
    for module in modules:
        settings_of: Any = getattr(module, "get_config_dict", dict)
        settings = settings_of()
        total.update(f"{type(module).__name__}{json.dumps(settings, sort_keys=True, default=str)}\n".encode())
    transformer: Any = getattr(modules[0], "auto_model", None)
    if transformer is not None:
        total.update(settings_text(transformer).encode())
    for module in modules:
        for name, layer in module.named_modules():
            if hasattr(layer, "base_layer"):  # peft's wrapper: switched off, its weights are still in the state
                wrapper: Any = layer
                state = (wrapper.disable_adapters, wrapper.merged, list(wrapper.active_adapters))
                total.update(f"{name}{state}\n".encode())
        add_weights(total, module)
    total.update(tokenizer_text(tokenizer).encode())
    return total.hexdigest()


def settings_text(model: Any) -> str:
    """What a transformers model does beside its weights, as text: configuration, generation, adapters.

    The same in every process and folder: sets are sorted, and where the model came from is left out.

    Args:
        model: a `transformers.PreTrainedModel`, or peft's wrapper of one.
    """
    generation = getattr(model, "generation_config", None)  # none of a model that writes nothing
    adapters = getattr(model, "peft_config", {})
    parts = {
        "config": json.loads(model.config.to_json_string()),
        "generation": None if generation is None else json.loads(generation.to_json_string()),
        "adapters": {name: config.to_dict() for name, config in adapters.items()},
    }
    return json.dumps(_placeless(parts), sort_keys=True)


def _placeless(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _placeless(one) for name, one in value.items() if name not in PLACES}
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, list | tuple):
        return [_placeless(one) for one in value]
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)


def add_weights(total: "hashlib._Hash", module: "torch.nn.Module") -> None:
    """Add the weights of a module to a hash: names, types, shapes and values."""
    import torch

    for name, tensor in module.state_dict().items():
        values = tensor.detach().cpu().contiguous()
        total.update(f"{name}{values.dtype}{tuple(values.shape)}\n".encode())
        total.update(values.reshape(-1).view(torch.uint8).numpy().data)


def tokenizer_text(tokenizer: Any) -> str:
    """Everything that a tokenizer does, as text.

    Args:
        tokenizer: of transformers: without the limit of its last call, which it also remembers; of the library
            tokenizers, whose limit is its own; or one of sentence-transformers' for whole words.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        values = json.loads(backend.to_str())
        return json.dumps({key: value for key, value in values.items() if key not in {"truncation", "padding"}})
    if hasattr(tokenizer, "to_str"):
        return str(tokenizer.to_str())
    if hasattr(tokenizer, "init_kwargs"):
        return json.dumps(
            [sorted(tokenizer.get_vocab().items()), type(tokenizer).__name__, str(tokenizer.init_kwargs)]
        )

    def plain(part: Any) -> Any:
        return sorted(part) if isinstance(part, set) else tokenizer_text(part)

    return json.dumps([type(tokenizer).__name__, vars(tokenizer)], default=plain)
