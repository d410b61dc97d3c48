"""A Ray cluster: whether it is there, and connecting to it.

Processes that run nothing but Ray's driver connect: a cluster that is lost takes its driver with it, and nothing else.
Run as a program, this one only looks for the cluster.
"""

import logging
import os
import subprocess
import sys
import warnings
from importlib.util import find_spec

FOUND_WITHIN = 60.0  # seconds: a cluster answers in a few, and Ray tries an address for minutes


def check_cluster(asked: str, instead: str) -> None:
    """Return when Ray is installed, and the cluster that `RAY_ADDRESS` names answers; before any work begins.

    Args:
        asked: the setting that wants it, as the beginning of a sentence: `compute.backend is ray`.
        instead: what to do without it, as the end of one: `set compute.backend to local`.
    Raises:
        ModuleNotFoundError: Ray is not installed; the message has the command.
        ConnectionError: `RAY_ADDRESS` is set, and no cluster answers there.
    """
    if find_spec("ray") is None:
        raise ModuleNotFoundError(f"{asked}, which needs Ray. Run: pip install 'ragsmith[cluster]', or {instead}.")
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        return
    command, said = [sys.executable, "-m", __name__], ""
    try:
        tried = subprocess.run(command, capture_output=True, timeout=FOUND_WITHIN, check=False)
        if tried.returncode == 0:
            return
        said = last_line(tried.stderr)
    except subprocess.TimeoutExpired:
        said = f"no answer within {FOUND_WITHIN:g} s"
    raise ConnectionError(
        f"{asked}, and there is no cluster at {address} (RAY_ADDRESS): {said}. Start it, correct the address, or "
        f"{instead}."
    )


def connect(logs: bool = False) -> None:
    """Make this process a driver on the cluster of `RAY_ADDRESS`.

    Without that, Ray takes the cluster of this machine, or starts one that ends with this process.

    Args:
        logs: whether what the cluster's processes print is printed here.
    Raises:
        ConnectionError: no cluster answers.
    """
    import ray

    warnings.simplefilter("ignore", FutureWarning)  # Ray's tips: the last line is to be a reason
    ray.init(include_dashboard=False, log_to_driver=logs, logging_level=logging.ERROR)


def last_line(output: bytes) -> str:
    """The last line that says something, shortened."""
    lines = output.decode("utf-8", errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else ""


if __name__ == "__main__":
    connect()
