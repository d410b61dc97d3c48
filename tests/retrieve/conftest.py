"""Models loaded once per test run: a tiny random one, and the real packaged one where its scores matter."""

from pathlib import Path

import pytest

from ragsmith.compute.device import Machine
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.models import resolve_model

CPU = Machine("cpu", "fp32")


@pytest.fixture(scope="session")
def tiny_model() -> Path:
    return resolve_model("random:bert-2x64")


@pytest.fixture(scope="session")
def tiny_encoder(tiny_model: Path) -> Encoder:
    return Encoder.load(tiny_model, CPU)


@pytest.fixture(scope="session")
def minilm() -> Encoder:
    return Encoder.load(resolve_model("package:all-MiniLM-L6-v2"), CPU)
