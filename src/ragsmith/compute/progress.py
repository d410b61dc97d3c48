"""Progress of long work, on a terminal as a bar and in a log as a line now and then."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)
# A log is not a terminal: one line in this many seconds tells that the work is alive.
LOG_EVERY_SECONDS = 15.0


@contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how far some work is; the body calls what it is given with the number of items just done.

    Args:
        label: what is being done; empty shows nothing.
        total: items in all.

    The time left is reckoned from what is done after the first call, which may tell what was done before.
    """
    if not label:
        yield lambda count: None
    elif sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(total=total, desc=label, unit="", dynamic_ncols=True, leave=False) as bar:
            yield lambda count: bar.update(count) and None
    else:
        last = time.monotonic()
        done = 0
        first: tuple[float, int] | None = None

        def advance(count: int) -> None:
            nonlocal done, first, last
            done += count
            now = time.monotonic()
            begun, before = first or (last, 0)
            first = first or (now, done)
            if now - last >= LOG_EVERY_SECONDS:
                last = now
                remaining = (now - begun) / max(done - before, 1) * (total - done)
                logger.info("%s: %d of %d, about %.0f s left", label, done, total, remaining)

        yield advance
