"""How a process ends itself at a change that it makes on the disk."""

import os
import signal
import sys
from collections.abc import Callable, Collection
from pathlib import Path


def watch(work: Path, last: int, changes: Collection[str], note: Callable[[str, str], str]) -> list[str]:
    """Note the changes below `work`, and end this process by SIGKILL at the one numbered `last`.

    Args:
        work: a folder.
        last: counted from 1; 0 for none.
        changes: names of audit events that change something, beside `open`.
        note: what is noted of an event and its path.
    Returns:
        The notes so far; it grows.
    """
    seen: list[str] = []

    def hook(event: str, arguments: tuple) -> None:
        if event == "open":
            path, _, flags = arguments
            changing = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR) and not flags & os.O_APPEND
        else:
            path, changing = (arguments[0] if arguments else ""), event in changes
        # TensorBoard writes from a thread of its own, whose order differs from run to run.
        if changing and str(path).startswith(str(work)) and "tensorboard" not in str(path):
            seen.append(note(event, str(path)))
            if len(seen) == last:
                if event == "open" and Path(path).exists():
                    os.truncate(path, 0)  # it dies just after the opening, with nothing written
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return seen
