"""One process at a time: a lock file that dies with its holder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HELD: set[Path] = set()


class LockHeld(RuntimeError):
    """Another run has the lock; the text says which process."""


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file at `path` for the body; the folder is made.

    The file stays when the lock is gone: the kernel's record lock is what counts, and that ends with the process,
    however it ends. A record lock is taken, and not `flock`, because forked workers do not inherit it: one that
    outlives a killed run would keep everybody out.

    Raises:
        LockHeld: another process, or another thread of this one, has it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path = path.resolve()
    # Record locks do not exclude within a process, and closing any handle of the file drops them: keep our own book.
    if path in _HELD:
        raise LockHeld(f"{path.parent} is in use by another run of this process ({os.getpid()}). Wait until it ends.")
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise LockHeld(
                f"{path.parent} is in use by another run (process {file.read().strip() or 'unknown'}). "
                f"Wait until it ends, stop it, or give this run another data folder."
            ) from error
        _HELD.add(path)
        try:
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield
        finally:
            _HELD.discard(path)
