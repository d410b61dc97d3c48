"""How the C library treats the large blocks that a training step takes and gives back."""

import ctypes
import logging
import platform

logger = logging.getLogger(__name__)
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # numbers of malloc.h
LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory for the next step instead of giving it back to the kernel.

    Otherwise each step of a training on the processor faults the same gigabytes in again, page by page. The largest
    amount in use at one time stays the same. Does nothing elsewhere than on Linux with glibc.

    Returns:
        Whether it was done.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    try:
        library = ctypes.CDLL("libc.so.6")
        return bool(library.mallopt(M_MMAP_THRESHOLD, 2**30) and library.mallopt(M_TRIM_THRESHOLD, LARGEST))
    except (OSError, AttributeError) as error:
        logger.debug("malloc stays as it is: %s", error)
        return False
