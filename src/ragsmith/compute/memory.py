"""How the C library treats the large blocks that a training step takes and gives back."""

import ctypes
import gc
import os
import platform
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # numbers of malloc.h
DEFAULT_THRESHOLD = 128 * 1024  # glibc's own, of both
LARGEST_TRIM, LARGEST_BLOCK = 2**31 - 1, 2**30
LIMITS = ("micro_tokens", "activation_bytes", "batch_tokens")  # attributes that `shrink` lowers where memory runs out
SLACK = 2**26  # bytes by which what is kept may grow
GIB = 2**30
# What the activations of a batch may take, where nobody says: of a card, which holds weights and optimizer too, and of
# the machine's memory, which others share; that much at least.
OF_CARD, OF_MACHINE, LEAST_ACTIVATIONS = 1 / 3, 1 / 8, GIB * 3 // 2
# On the processor torch raises a plain RuntimeError, which only its words tell from others: its allocator's on Linux
# and on Windows, C++'s, and oneDNN's, which says no more than what it could not do.
NO_MEMORY = re.compile(
    r"can't allocate memory|not enough memory|bad_alloc|could not (create|execute) a primitive(?! descriptor)"
)
CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")

_lock = threading.Lock()
_holders: list[object] = []  # the bodies of `freed_memory_kept` that are being run


@cache
def _glibc() -> ctypes.CDLL | None:
    """The C library, where its malloc is glibc's."""
    return ctypes.CDLL("libc.so.6") if platform.libc_ver()[0] == "glibc" else None


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Let glibc keep freed memory for the next step, and give it back to the kernel at the end of the outermost.

    Otherwise each step of a training on the processor faults the same gigabytes in again, page by page. What is in use
    at one time stays the same. Does nothing elsewhere than on Linux with glibc.
    """
    library = _glibc()
    if library is None:
        yield
        return
    with _lock:
        _holders.append(library)
        library.mallopt(M_MMAP_THRESHOLD, LARGEST_BLOCK)
        library.mallopt(M_TRIM_THRESHOLD, LARGEST_TRIM)
    try:
        yield
    finally:
        with _lock:
            _holders.pop()
            if not _holders:
                library.mallopt(M_MMAP_THRESHOLD, DEFAULT_THRESHOLD)
                library.mallopt(M_TRIM_THRESHOLD, DEFAULT_THRESHOLD)
                gc.collect()
                give_back_freed()


def give_back_freed() -> None:
    """Give to the kernel what is kept, and start anew.

    Steps of different sizes leave gaps that none of the later ones fits into: what is kept grows with their number.
    """
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


class KeptMemory:
    """What is kept between the steps of a training, given back every other step if it has grown by `slack` bytes.

    Giving back after each step would cost a tenth of the time, and never would cost memory without end.
    """

    def __init__(self, slack: int = SLACK) -> None:
        self.slack = slack
        self.least: int | None = None
        self.steps = 0

    def after_step(self) -> bool:
        """Look at what is held, and give back if it is too much; whether it was."""
        self.steps += 1
        held = memory_now()
        if held is None:
            return False
        self.least = held if self.least is None else min(self.least, held)
        if self.steps % 2 or held <= self.least + self.slack:
            return False
        give_back_freed()
        self.least = None  # what the next step needs is kept again
        return True


def memory_now() -> int | None:
    """The memory that this process holds (resident set), in bytes; None where it is not told."""
    return _told_by_kernel("VmRSS:")


def peak_memory() -> int | None:
    """The most memory that this process has held so far (resident set), in bytes; None where it is not told."""
    return _told_by_kernel("VmHWM:")


def _told_by_kernel(name: str) -> int | None:
    try:
        # Not getrusage: on Linux its figure is inherited from the program that started this one.
        status = Path("/proc/self/status").read_text("ascii", errors="replace")
    except OSError:
        return None
    line = next((line for line in status.splitlines() if line.startswith(name)), None)
    return None if line is None else int(line.split()[1]) * 1024


def machine_memory() -> int | None:
    """The memory of this machine, or what its control groups (a container, a batch job) leave of it, in bytes.

    None where it is not told.
    """
    found, groups = [], ""
    with suppress(AttributeError, ValueError, OSError):
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with suppress(OSError):
        groups = OWN_CGROUPS.read_text("ascii", errors="replace")
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in {"", "memory"}:
            continue
        group, name = (CGROUPS / "memory", "memory.limit_in_bytes") if controllers else (CGROUPS, "memory.max")
        # A limit holds for all groups below it; seen from within a container, its own group is the root.
        for part in ("", *Path(path).parts[1:]):
            group /= part
            with suppress(OSError, ValueError):
                found.append(int((group / name).read_text("ascii")))  # "max": none
    return min(found, default=None)


def activation_budget(gib: float | None, device: str, processes: int = 1) -> int:
    """What the activations of a batch may take before they are computed twice in place of kept, in bytes.

    Args:
        gib: as set; None goes by the memory that there is, and not by what is free: the same run then computes the
            same on the same machine.
        device: of `Machine`.
        processes: that compute on this machine; each has a share of its memory, and a card of its own.
    """
    import torch

    if gib is not None:
        return int(gib * GIB)
    if device == "cuda":
        return int(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory * OF_CARD)
    return max(LEAST_ACTIVATIONS, int((machine_memory() or 0) * OF_MACHINE / processes))


def activation_bytes(config: Any, lengths: Sequence[int], precision: str, hidden: int = 768) -> int:
    """About what the backward pass of a transformer needs for sequences of these lengths.

    Per token and layer: queries, keys, values, the attention's output, both sums and both norms (8 × hidden), inner
    products before and after the activation (2 × intermediate), and heads × length attention weights.

    Args:
        config: of the transformer; None takes the usual sizes.
        lengths: tokens of each sequence.
        precision: of `Machine`.
        hidden: taken where the configuration does not say.
    """
    hidden = getattr(config, "hidden_size", None) or hidden
    inner = getattr(config, "intermediate_size", None) or 4 * hidden
    layers = getattr(config, "num_hidden_layers", None) or 12
    heads = getattr(config, "num_attention_heads", None) or 12
    size = 2 if precision == "bf16" else 4
    return sum(layers * size * length * (8 * hidden + 2 * inner + heads * length) for length in lengths)


def halved(tokens: int, least: int) -> int:
    """Half as many tokens at once, but `least`, the longest text, at least; never more than there were.

    >>> [halved(4096, 512), halved(600, 512), halved(256, 512)]
    [2048, 512, 256]
    """
    return min(tokens, max(least, tokens // 2))


def limits_of(part: Any) -> dict[str, int]:
    """How much a part of a training computes at once and keeps, to be put into a checkpoint."""
    return {name: getattr(part, name) for name in LIMITS if hasattr(part, name)}


def set_limits(part: Any, limits: Mapping[str, int]) -> None:
    """Let a part of a training go on with the limits that it had before; those that are not told stay as they are."""
    for name in LIMITS:
        if name in limits:
            setattr(part, name, int(limits[name]))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was no memory left, on a graphics card or in the machine."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and NO_MEMORY.search(str(error)) is not None
