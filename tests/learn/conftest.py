"""A tiny model, and six passages with training queries for them."""

from pathlib import Path

import pandas as pd
import pytest

from ragsmith.compute.device import Machine
from ragsmith.retrieve.models import resolve_model

TOPICS = {
    "p1": ("tree", "Delete a whole directory tree."),
    "p2": ("copy", "Copy a file with its permissions."),
    "p3": ("json", "Write an object as JSON text."),
    "p4": ("sleep", "Wait for a number of seconds."),
    "p5": ("sqrt", "The square root of a number."),
    "p6": ("shuffle", "Bring a list into random order."),
}


@pytest.fixture(scope="session")
def tiny_model() -> Path:
    return resolve_model("random:bert-2x64")


@pytest.fixture
def machine() -> Machine:
    return Machine("cpu", "fp32")


@pytest.fixture
def passages() -> pd.DataFrame:
    rows = [(passage_id, title, text) for passage_id, (title, text) in TOPICS.items()]
    return pd.DataFrame(rows, columns=["passage_id", "title", "text"])


@pytest.fixture
def queries() -> pd.DataFrame:
    """One training query per passage; the lead sentence is what each was taken from."""
    rows = [(f"q{number}", f"how to {title}", f"p{number}", 0, 6) for number, (title, _) in enumerate(TOPICS.values(), 1)]
    return pd.DataFrame(rows, columns=["query_id", "text", "passage_id", "cut_start", "cut_end"])


@pytest.fixture
def mined() -> pd.DataFrame:
    """Each query's negatives are the next two passages; p1 also answers q2."""
    rows = [(f"q{n}", [f"p{n}"], [f"p{n % 6 + 1}", f"p{(n + 1) % 6 + 1}"]) for n in range(1, 7)]
    table = pd.DataFrame(rows, columns=["query_id", "positive_ids", "negative_ids"])
    table.at[1, "positive_ids"] = ["p2", "p1"]
    return table
