"""A tiny model, six passages with training queries for them, and a task of the loop that takes milliseconds."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from ragsmith.compute.device import Machine
from ragsmith.learn.contrastive import DevSet
from ragsmith.learn.loop import PlainTask
from ragsmith.learn.mine_again import FreshNegatives
from ragsmith.learn.train_retriever import RetrieverRun
from ragsmith.retrieve.margins import Margins
from ragsmith.retrieve.mining_data import MiningSettings
from ragsmith.retrieve.models import resolve_model

# Scripts that tests run.
collect_ignore = ["killed_runs.py", "two_ranks.py"]

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
    rows = [
        (f"q{number}", f"how to {title}", f"p{number}", 0, 6) for number, (title, _) in enumerate(TOPICS.values(), 1)
    ]
    return pd.DataFrame(rows, columns=["query_id", "text", "passage_id", "cut_start", "cut_end"])


@pytest.fixture
def mined() -> pd.DataFrame:
    """Each query's negatives are the next two passages; p1 also answers q2."""
    rows = [(f"q{n}", [f"p{n}"], [f"p{n % 6 + 1}", f"p{(n + 1) % 6 + 1}"]) for n in range(1, 7)]
    table = pd.DataFrame(rows, columns=["query_id", "positive_ids", "negative_ids"])
    table.at[1, "positive_ids"] = ["p2", "p1"]
    return table


@pytest.fixture
def dev(queries: pd.DataFrame, passages: pd.DataFrame) -> DevSet:
    """The training questions themselves."""
    return DevSet(
        queries["text"].tolist(),
        [{passage_id} for passage_id in queries["passage_id"]],
        passages["passage_id"].tolist(),
        passages["text"].tolist(),
    )


@pytest.fixture
def fresh(
    queries: pd.DataFrame, passages: pd.DataFrame, machine: Machine, tmp_path: Path
) -> Callable[..., FreshNegatives]:
    """Mines again, among all passages unless told otherwise; all are of one document."""

    def make(pool: set[str] | None = None, negatives: int = 2, work: str = "fresh", **more: Any) -> FreshNegatives:
        settings = MiningSettings(num_negatives=negatives, margins=Margins(None, ()), exclude_same_document=False)
        positives = {row.query_id: [row.passage_id] for row in queries.itertuples()}
        documents, wanted = passages.assign(document_id="d"), set(passages["passage_id"]) if pool is None else pool
        return FreshNegatives(queries, positives, documents, wanted, settings, machine, tmp_path / work, **more)

    return make


@pytest.fixture
def losses_of() -> Callable[[RetrieverRun], list[float]]:
    """The losses of a training, step by step, from its log."""

    def read(run: RetrieverRun) -> list[float]:
        return [line["loss"] for line in map(json.loads, run.log.read_text().splitlines()) if line["kind"] == "train"]

    return read


class ToyTask(PlainTask):
    """A small network with dropout that learns to double numbers; its score is minus the error."""

    metric = "score"
    batches_per_epoch = 4

    def __init__(self, name: str = "toy", scores: list[float] | None = None) -> None:
        torch.manual_seed(7)
        self.module = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1))
        self.name = name
        self.scores = scores
        self.evaluated = 0

    def identity(self) -> str:
        return self.name

    def loss(self, epoch: int, number: int) -> tuple[torch.Tensor, dict[str, float]]:
        numbers = torch.from_numpy(np.random.default_rng([7, epoch, number]).normal(size=(5, 3))).float()
        error = (self.module(numbers) - 2 * numbers[:, :1]).square().mean()
        return error, {"first": numbers[0, 0].item()}

    def evaluate(self) -> tuple[float, dict[str, float]]:
        assert not self.module.training
        self.evaluated += 1
        if self.scores is not None:
            return self.scores[self.evaluated - 1], {}
        numbers = torch.linspace(-1, 1, 30).reshape(10, 3)
        with torch.no_grad():
            return -(self.module(numbers) - 2 * numbers[:, :1]).square().mean().item(), {}

    def shrink(self) -> bool:
        return False


@pytest.fixture
def toy_task() -> type[ToyTask]:
    return ToyTask
