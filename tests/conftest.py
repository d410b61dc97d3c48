"""What holds for every test: nothing reaches the network, and nothing is left in the home of who runs them."""

import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from language_model import Endpoint

# Before any library is imported, for most read these once; child processes get them too.
os.environ |= {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "KEDRO_DISABLE_TELEMETRY": "true",
    "TOKENIZERS_PARALLELISM": "false",
}
if "PYTEST_XDIST_WORKER" in os.environ:
    # Two processes with a thread for each processor wait for each other in every small product.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# What tests of several packages share. A folder of its own: beside it, `tests/datasets` would pass for the library.
sys.path.append(str(Path(__file__).parent / "support"))


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


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory, own_cache: None) -> Path:
    """A whole bundle of three passages and untrained models; the second passage is hostile to terminals."""
    import pandas as pd

    from ragsmith.compute.device import Machine
    from ragsmith.read.extractive import ExtractiveReader, ReaderSettings
    from ragsmith.retrieve.build import build_index
    from ragsmith.retrieve.models import resolve_model
    from ragsmith.serve.bundle import build_bundle

    folder, machine = tmp_path_factory.mktemp("bundle"), Machine("cpu", "fp32")
    rows = [
        ("p1", "d1", "shutil.rmtree", "shutil.rmtree(path)\n\nDelete an entire directory tree. It is gone."),
        ("p2", "d2", "hostile\x1b[2J", "hostile\x1b]0;title\x07\n\nRing\x9b31m the\u202e bell\x07.\rOver."),
        ("p3", "d3", "math.sqrt", "math.sqrt(x)\n\nThe square root of x."),
    ]
    passages = pd.DataFrame(rows, columns=["passage_id", "document_id", "title", "text"])
    passages.to_parquet(folder / "passages.parquet", index=False)
    model = resolve_model("random:bert-2x64")
    index = build_index(model, passages, machine, 512, folder, "")
    (folder / "reader").mkdir()
    ExtractiveReader.load(model, ReaderSettings(max_tokens=64), machine).save(folder / "reader")
    settings = {"mode": "hybrid", "passages": 2}
    return build_bundle(model, index, folder / "reader", folder / "passages.parquet", settings, {}, folder / "whole")


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator["Endpoint"]:
    """A language model's endpoint on this machine, which says what the test has it say."""
    from language_model import Endpoint

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Endpoint()
    yield server
    server.close()


@pytest.fixture
def publish_evaluation() -> Callable[..., Path]:
    """Write a folder's metrics.json and per_query.parquet as a run does: through the catalog's own datasets."""
    import pandas as pd

    from ragsmith.datasets import JSONDocument, ParquetTable

    def publish(folder: Path, em: list[float], run: dict[str, Any] | None = None, **columns: list[Any]) -> Path:
        """One question for each value of `em`; F1 is equal to it unless it is among the columns."""
        table = {
            "query_id": [f"q{number}" for number in range(len(em))],
            "query": [f"What is number {number}?" for number in range(len(em))],
            "expected": [["one", "the one"]] * len(em),
            "answer": [f"answer {number}" if value else "" for number, value in enumerate(em)],
            "em": em,
            "f1": em,
        }
        estimate = {"mean": sum(em) / len(em), "ci95": [0.0, 1.0]}
        retrieval = {"tuned": {"ndcg@10": estimate}}
        metrics = {"retrieval": retrieval, "answers": {"em": estimate}, "run": run or {}, "queries": {"test": len(em)}}
        JSONDocument(filepath=str(folder / "metrics.json")).save(metrics)
        ParquetTable(filepath=str(folder / "per_query.parquet")).save(pd.DataFrame(table | columns))
        return folder

    return publish
