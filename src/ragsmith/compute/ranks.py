"""Several processes that train one model: their place, and what they exchange."""

import ctypes
import datetime as dt
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ragsmith.compute.memory import is_out_of_memory

if TYPE_CHECKING:
    import torch

# The first process evaluates and mines while the others wait, for longer than the minutes that are torch's default.
# Where one fails, what started them ends the others.
WAITING = dt.timedelta(days=7)


def die_with_parent() -> None:
    """Let the kernel kill this process when the one that started it dies, however it dies; on Linux alone.

    A training whose launcher was killed would otherwise write on, beside the one that is started next.
    """
    if sys.platform == "linux":
        set_parent_death_signal = 1  # PR_SET_PDEATHSIG of sys/prctl.h
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


@contextmanager
def process_group(device: str) -> Iterator[None]:
    """Join the group that `torchrun` started this process for; nothing when it was started alone, or has joined.

    Args:
        device: `cpu` (gloo) or `cuda` (nccl; each process takes the card of its local rank).
    """
    import torch
    from torch import distributed

    if started() == 1 or joined():
        yield
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if device == "cuda" else "gloo", timeout=WAITING)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def joined() -> bool:
    """Whether this process is one of a group."""
    from torch import distributed

    return distributed.is_available() and distributed.is_initialized()


def rank() -> int:
    """Number of this process, from 0; the first one evaluates and writes for all."""
    from torch import distributed

    return distributed.get_rank() if joined() else 0


def started() -> int:
    """How many processes `torchrun` has started, whether they have joined or not; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def world() -> int:
    """How many processes there are."""
    from torch import distributed

    return distributed.get_world_size() if joined() else 1


def refuse_several(what: str) -> None:
    """Return when this process works alone; before anything is loaded or written.

    Args:
        what: the work that several would do twice, as the beginning of a sentence.
    Raises:
        ValueError: it is one of several, which `torchrun` started or which have joined a group.
    """
    count = world() if joined() else started()
    if count > 1:
        raise ValueError(
            f"{what} is work for one process, and this is one of {count}: each would do all of it, and write to the "
            "same folder. Start it without torchrun (WORLD_SIZE unset); what several processes share is the training "
            "of a retriever: compute.ranks."
        )


def wait_for_all() -> None:
    """Return when every process has come here."""
    from torch import distributed

    if joined():
        distributed.barrier()


def of_first(value: float, device: str) -> float:
    """The value that the first process gives; what the others give is not looked at."""
    import torch
    from torch import distributed

    if not joined():
        return value
    box = torch.tensor([value], dtype=torch.float64, device=device)
    distributed.broadcast(box, 0)
    return float(box.item())


class OutOfMemory(MemoryError):
    """This process, or another of its group, ran out of memory; all of them know."""


@contextmanager
def together() -> Iterator[None]:
    """Let all processes get through the body, or none: where one runs out of memory, all raise `OutOfMemory`.

    Otherwise the others would wait for it in the next exchange, and take what it sends when it tries again for
    something else. Bodies with exchanges have a `together` before each of these.
    """
    failure: BaseException | None = None
    try:
        yield
    except OutOfMemory:
        raise  # said to all already
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        failure = error
    try:
        if somewhere(failure is not None):
            raise OutOfMemory(
                "out of memory in another process" if failure is None else first_line(failure)
            ) from failure
    finally:
        # It holds this frame, by its traceback, and by those below it all that the step had computed.
        failure = None


def first_line(error: BaseException) -> str:
    """Of what an error says; its name if it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def somewhere(here: bool) -> bool:
    """Whether something is so in any of the processes."""
    import torch
    from torch import distributed

    if not joined():
        return here
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    box = torch.tensor([int(here)], device=device)
    distributed.all_reduce(box)
    return bool(box.item())


def gathered(own: "torch.Tensor", counts: Sequence[int]) -> "torch.Tensor":
    """The rows of all processes, in the order of their ranks.

    The gradient reaches the own rows alone: each process computes the whole loss, and the sum of what the processes
    then have is the gradient of that loss.

    Args:
        own: shape (counts[rank], width).
        counts: rows of each process.
    Returns:
        Shape (sum of counts, width).
    """
    import torch
    from torch import distributed

    if not joined():
        return own
    most = max(counts)
    padded = torch.nn.functional.pad(own.detach(), (0, 0, 0, most - len(own))).contiguous()
    parts = [torch.empty_like(padded) for _ in counts]
    distributed.all_gather(parts, padded)
    received = zip(parts, counts, strict=True)
    return torch.cat([own if place == rank() else part[:count] for place, (part, count) in enumerate(received)])


def add_gradients(module: "torch.nn.Module") -> None:
    """Replace each parameter's gradient by the sum over all processes; one that lacks it counts as zero."""
    import torch
    from torch import distributed

    if not joined():
        return
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    known = torch.tensor([parameter.grad is not None for parameter in parameters], dtype=torch.int32)
    known = known.to(parameters[0].device)
    distributed.all_reduce(known)
    used = [parameter for parameter, somewhere in zip(parameters, known.tolist(), strict=True) if somewhere]
    gradients = [parameter.grad if parameter.grad is not None else torch.zeros_like(parameter) for parameter in used]
    flat = torch.cat([gradient.flatten() for gradient in gradients])  # one exchange, not one per parameter
    distributed.all_reduce(flat)
    sizes = [parameter.numel() for parameter in used]
    for parameter, part in zip(used, torch.split(flat, sizes), strict=True):
        parameter.grad = part.view_as(parameter)
