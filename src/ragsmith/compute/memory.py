"""How the C library treats the large blocks that a training step takes and gives back."""

import ctypes
import gc
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # numbers of malloc.h
DEFAULT_THRESHOLD = 128 * 1024  # glibc's own, of both
LARGEST_TRIM, LARGEST_BLOCK = 2**31 - 1, 2**30

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


def peak_memory() -> int | None:
    """The most memory that this process has held so far (resident set), in bytes; None where it is not told."""
    try:
        # Not getrusage: on Linux its figure is inherited from the program that started this one.
        status = Path("/proc/self/status").read_text("ascii", errors="replace")
    except OSError:
        return None
    line = next((line for line in status.splitlines() if line.startswith("VmHWM:")), None)
    return None if line is None else int(line.split()[1]) * 1024


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was no memory left, on a graphics card or in the machine."""
    import torch

    # On the processor torch raises a plain RuntimeError, which only its words tell from others.
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
