"""How the C library treats the large blocks that a training step takes and gives back."""

import ctypes
import gc
import platform
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # numbers of malloc.h
DEFAULT_THRESHOLD = 128 * 1024  # glibc's own, of both
LARGEST_TRIM, LARGEST_BLOCK = 2**31 - 1, 2**30


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Let glibc keep freed memory for the next step, and give it back to the kernel at the end.

    Otherwise each step of a training on the processor faults the same gigabytes in again, page by page. What is in use
    at one time stays the same. Does nothing elsewhere than on Linux with glibc.
    """
    library = ctypes.CDLL("libc.so.6") if platform.libc_ver()[0] == "glibc" else None
    if library is None:
        yield
        return
    library.mallopt(M_MMAP_THRESHOLD, LARGEST_BLOCK)
    library.mallopt(M_TRIM_THRESHOLD, LARGEST_TRIM)
    try:
        yield
    finally:
        library.mallopt(M_MMAP_THRESHOLD, DEFAULT_THRESHOLD)
        library.mallopt(M_TRIM_THRESHOLD, DEFAULT_THRESHOLD)
        gc.collect()
        library.malloc_trim(0)
