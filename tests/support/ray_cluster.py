"""A real Ray cluster, which is a process of its own."""

import contextlib
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

# For the clusters and those who connect: Ray would leave a token of its own in the home of who runs the tests.
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

NEEDS_RAY = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install 'ragsmith[cluster]'"),
    pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, to find the processes of Ray"),
]

CLUSTER = """
import sys, ray
started = ray.init("local", num_cpus=int(sys.argv[2]), include_dashboard=False, object_store_memory=80 * 2**20,
                   _temp_dir=sys.argv[1])
print(started.address_info["gcs_address"], flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def cluster(processors: int = 1) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """The address of a cluster, and the process that it ends with."""
    folder = Path(f"/tmp/r{os.getpid()}-{time.monotonic_ns() % 10**6}")  # the path of a socket is short
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER, str(folder), str(processors)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        address = process.stdout.readline().decode().strip()
        assert address, "Ray did not start"
        yield address, process
    finally:
        try:
            process.communicate(timeout=30)  # it ends with its input, and ends the cluster
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def at_work(name: bytes) -> list[int]:
    """The processes in which Ray is at work on what has this in its name."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if re.match(rb"ray::.*" + name, (process / "cmdline").read_bytes()):
                found.append(int(process.name))
    return found
