"""What holds for every test: nothing reaches the network, and nothing is left in the home of who runs them."""

import os
import socket
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

# Before any library is imported, for most read these once; child processes get them too.
os.environ |= {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "KEDRO_DISABLE_TELEMETRY": "true",
    "TOKENIZERS_PARALLELISM": "false",
}


@pytest.fixture(scope="session", autouse=True)
def own_cache() -> Iterator[None]:
    """Caches of this session alone: a test neither finds nor leaves anything in the person's."""
    with tempfile.TemporaryDirectory(prefix="ragsmith-cache-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", folder)
        yield


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections to other machines fail; servers and kernels that a test starts on this one are reached."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        internet = self.family in (socket.AF_INET, socket.AF_INET6)
        if internet and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"a test tried to reach {address[0]}: tests run without the network")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
