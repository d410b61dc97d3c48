"""A tiny model without training, and passages to read."""

from pathlib import Path

import pandas as pd
import pytest

from ragsmith.compute.device import Machine
from ragsmith.read.extractive import ExtractiveReader, ReaderSettings, ReadingPassage
from ragsmith.retrieve.models import resolve_model


@pytest.fixture(scope="session")
def tiny_model() -> Path:
    return resolve_model("random:bert-2x64")


@pytest.fixture
def machine() -> Machine:
    return Machine("cpu", "fp32")


@pytest.fixture
def reader(tiny_model, machine) -> ExtractiveReader:
    return ExtractiveReader.load(tiny_model, ReaderSettings(max_tokens=48, max_answer_tokens=6), machine)


@pytest.fixture
def found() -> list[ReadingPassage]:
    return [
        ReadingPassage("p1", "shutil.rmtree(path)\n\nDelete an entire directory tree.", 0.8),
        ReadingPassage("p2", "Ünïcödé  –  naïve “quotes”, 日本語 and 🙂 emoji\ttabs", 0.5),
        ReadingPassage("p3", "math.sqrt(x)\n\nThe square root of x.", 0.1),
    ]


@pytest.fixture
def passages() -> pd.DataFrame:
    rows = [
        ("p1", "shutil > shutil.rmtree", "shutil.rmtree(path)\n\nDelete an entire directory tree. It is gone."),
        ("p2", "math > math.sqrt", "math.sqrt(x)\n\nThe square root of x."),
        ("p3", "json", "Middle of a section."),
    ]
    return pd.DataFrame(rows, columns=["passage_id", "title", "text"])
