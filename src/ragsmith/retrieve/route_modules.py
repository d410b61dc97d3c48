"""The modules of one side of a bi-encoder, and what can be told of them without computing anything."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ragsmith.compute.device import Machine
from ragsmith.retrieve.identity import modules_identity
from ragsmith.retrieve.packed import position_limit

if TYPE_CHECKING:
    import torch

# Where neither the model nor its tokenizer says how long a text may be.
USUAL_LIMIT = 512


class RouteModules:
    """What `Tower` and `TextTower` have in common.

    Args:
        modules: as sentence-transformers applies them.
        machine: as of `Encoder`.
    """

    def __init__(self, modules: "Sequence[torch.nn.Module]", machine: Machine) -> None:
        self.modules = list(modules)
        self.machine = machine

    @property
    def tokenizer(self) -> Any:
        """That of the first module."""
        first: Any = self.modules[0]
        return first.tokenizer

    @property
    def module(self) -> "torch.nn.Module":
        """All modules as one."""
        import torch

        return torch.nn.ModuleList(self.modules)

    @property
    def dimension(self) -> int:
        """Length of a vector.

        Raises:
            ValueError: no module says it.
        """
        for module in reversed(self.modules):
            ask: Any = getattr(module, "get_embedding_dimension", None)
            if ask is not None and (size := ask()) is not None:
                return int(size)
        raise ValueError("The model does not say how long its vectors are.")

    def identity(self) -> str:
        """Hash of the modules and the tokenizer as they are now."""
        return modules_identity(self.modules, self.tokenizer)

    def token_limit(self, max_tokens: int | None) -> int:
        """Where a text is cut: at `max_tokens`, or before, where the model's own length or its positions end."""
        first: Any = self.modules[0]
        transformer = getattr(first, "auto_model", None)
        places = None if transformer is None else position_limit(transformer)
        limits = (max_tokens, getattr(first, "max_seq_length", None), places)
        # A tokenizer without a limit says 10^30; without positions for more, none of the limits holds.
        return min((int(limit) for limit in limits if limit and limit < 10**9), default=USUAL_LIMIT)
