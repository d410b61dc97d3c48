"""A tiny model without training, and passages to read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tiny_generators import generator_folder

from ragsmith.compute.device import Machine
from ragsmith.read.causal import CausalReader
from ragsmith.read.decoding import Decoding
from ragsmith.read.extractive import ExtractiveReader, ReaderSettings
from ragsmith.read.generative import GenerativeReader, GenerativeSettings
from ragsmith.read.knowledge_base import KnowledgeBase
from ragsmith.read.live_index import LiveIndex, RefreshSettings
from ragsmith.read.rag_settings import RagQuestion
from ragsmith.read.reading import ReadingPassage
from ragsmith.read.seq2seq import Seq2SeqReader
from ragsmith.retrieve.build import build_index
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.index import DenseIndex
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


# A script that a test runs.
collect_ignore = ["killed_rag.py"]

TOWNS = {
    "Ulm": "red", "Trier": "blue", "Jena": "green", "Essen": "white", "Bonn": "black", "Mainz": "yellow",
    "Kiel": "grey", "Worms": "pink", "Fulda": "purple", "Celle": "orange", "Soest": "silver", "Gera": "gold",
}  # fmt: skip


@pytest.fixture(scope="session")
def town_base(tiny_model, tmp_path_factory) -> KnowledgeBase:
    """One passage about the car of each town, found by an untrained encoder."""
    rows = [
        (f"p{number}", town, f"The car in {town} is {colour}." + " It is old." * (number % 3))
        for number, (town, colour) in enumerate(TOWNS.items(), start=1)
    ]
    passages = pd.DataFrame(rows, columns=["passage_id", "title", "text"])
    work = tmp_path_factory.mktemp("towns")
    index = build_index(tiny_model, passages, Machine("cpu", "fp32"), 4096, work, "")
    return KnowledgeBase(tiny_model, index, passages)


@pytest.fixture
def town_questions() -> list[RagQuestion]:
    """One question about each town, with the passage that answers it."""
    return [
        RagQuestion(f"q{number}", f"What colour is the car in {town}?", (colour,), frozenset({f"p{number}"}))
        for number, (town, colour) in enumerate(TOWNS.items(), start=1)
    ]


@pytest.fixture
def live_index(town_base, machine, tmp_path):
    """Make the live index of the towns, with an encoder of its own."""

    def make(folder: str = "live", **settings) -> LiveIndex:
        encoder = Encoder.load(town_base.retriever, machine)
        start = DenseIndex.load(town_base.index)
        return LiveIndex(encoder, start, town_base.passages, RefreshSettings(**settings), tmp_path / folder)

    return make


@pytest.fixture(scope="session")
def generators(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Folders of tiny language models, by name and seed, each built once."""
    folder = tmp_path_factory.mktemp("generators")
    return lambda name, seed=0: generator_folder(name, seed, folder)


@pytest.fixture
def writer(generators: Callable[..., Path], machine: Machine) -> Callable[..., GenerativeReader]:
    """Readers that write, on tiny language models; `decoding` is given as keywords of its own."""

    def build(name: str, kind: Any, seed: int = 0, decoding: dict[str, Any] | None = None, **settings: Any) -> Any:
        wanted: dict[str, Any] = {"max_tokens": 128, "max_answer_tokens": 8, "prior_weight": 3.0} | settings
        chosen = GenerativeSettings(kind=kind, decoding=Decoding(**(decoding or {})), **wanted)
        loader = CausalReader if kind == "causal" else Seq2SeqReader
        reader = loader.load(generators(name, seed), chosen, machine)
        reader.model.eval()
        return reader

    return build
