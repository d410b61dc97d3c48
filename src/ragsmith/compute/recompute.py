"""Parts of a batch whose backward pass need not fit into memory together."""

from collections.abc import Callable, Sequence
from typing import Any


def each_part(work: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], recompute: bool) -> list[Any]:
    """What `work` gives for each part.

    Args:
        work: of one part, with gradient.
        arguments: its arguments, for each part.
        recompute: keep nothing of what the backward pass needs: it is computed again there, one part at a time. The
            gradient is the same, in the memory of one part (GradCache, Gao et al. 2021).
    """
    import torch
    from torch.utils.checkpoint import checkpoint

    if recompute and torch.is_grad_enabled():
        return [checkpoint(work, *some, use_reentrant=False) for some in arguments]
    return [work(*some) for some in arguments]
