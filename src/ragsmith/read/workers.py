"""What works on a refresh in its folder while training goes on: a process beside it, or a task on a Ray cluster."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, Protocol

from ragsmith.compute.ray_cluster import check_cluster, last_line

Background = Literal["process", "ray"]

LOG = "stderr.txt"
ENDS_WITHIN = 10.0  # seconds: a process that is killed is gone at once, unless it hangs in the kernel


class Worker(Protocol):
    """Work on one job that is under way; a result that is whole in the folder counts, however the work ended."""

    def failure(self, timeout: float) -> str:
        """Wait for its end.

        Args:
            timeout: seconds to wait at most.
        Returns:
            Why it failed; nothing where it did not.
        Raises:
            TimeoutError: it has not ended.
        """

    def stop(self) -> None:
        """End it; what hangs beyond reach is left to itself."""


class ProcessWorker:
    """A process on this machine; it ends with the one that began it.

    Args:
        folder: of the job, see `ragsmith.read.refresh_job`; its error output goes there too.
    """

    module = "ragsmith.read.refresh_job"

    def __init__(self, folder: Path) -> None:
        self.log = folder / LOG
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module, str(folder), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    def failure(self, timeout: float) -> str:
        """See `Worker`."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"no end within {timeout:g} s") from error
        said = last_line(self.log.read_bytes())
        return (f"exit status {status}" + (f": {said}" if said else "")) if status else ""

    def stop(self) -> None:
        """See `Worker`."""
        if self.process.poll() is None:
            self.process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # it ends when the kernel lets it, and nobody waits
                self.process.wait(ENDS_WITHIN)


class RayWorker(ProcessWorker):
    """A task on a Ray cluster, on one processor, and one card where the training has one.

    The nodes see the folder under the same path and have ragsmith installed. `RAY_ADDRESS` says where the cluster is;
    without it Ray takes the one of this machine, or starts it. A process here (`ragsmith.read.ray_job`) waits for it.
    """

    module = "ragsmith.read.ray_job"


WORKERS: Mapping[Background, Callable[[Path], Worker]] = {"process": ProcessWorker, "ray": RayWorker}


def check_worker(background: Background | bool) -> None:
    """Return when there is what `RefreshSettings.background` asks for; before any work begins.

    Raises:
        ValueError: there is no such way.
        ModuleNotFoundError: Ray is not installed; the message has the command.
        ConnectionError: `RAY_ADDRESS` is set, and no cluster answers there.
    """
    if isinstance(background, bool) or background == "process":
        return
    if background != "ray":
        raise ValueError(f"refresh.background is {background!r}; it may be False, {', '.join(map(repr, WORKERS))}.")
    check_cluster("refresh.background is ray", "set refresh.background to process")
