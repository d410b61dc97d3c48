"""The parts of a training that follow each other, each from what the one before has learned."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ragsmith.learn.contrastive import DevSet
from ragsmith.retrieve.encoder import Encoder


def table_hash(table: pd.DataFrame) -> str:
    """SHA-256 of the rows, in their order, as JSON lines of lists; cells are texts, floats or lists of texts."""
    digest = hashlib.sha256()
    for row in table.itertuples(index=False):
        cells = [cell if isinstance(cell, str | float) else list(cell) for cell in row]
        digest.update(json.dumps(cells).encode() + b"\n")
    return digest.hexdigest()


@dataclass(frozen=True)
class Stage:
    """One training of a curriculum (Bengio et al. 2009), or a round with fresh negatives (ANCE, Xiong et al. 2021).

    Attributes:
        name: for log and report.
        query_ids: what it trains on; None takes all mined queries.
        remine: look for negatives again, with the model as it is when the stage begins.
        epochs, learning_rate: None takes those of the loop.
    """

    name: str
    query_ids: frozenset[str] | None = None
    remine: bool = False
    epochs: int | None = None
    learning_rate: float | None = None


@dataclass(frozen=True)
class RetrieverData:
    """What a retriever is trained on.

    Attributes:
        queries, mined: see `training_examples`.
        passages: passage_id, title, text.
        dev: steers training.
        stages: one after the other; none means one stage with all mined queries.
        mine_again: gives `mined` of given query ids anew, by the model that it is handed; needed by stages that ask.
        original: the model before its pooling or its prompts were changed, which the gate looks at too; None when
            training begins with it.
        judge: what the gate decides by, the questions of dev over more passages; None takes dev itself.
    """

    queries: pd.DataFrame
    mined: pd.DataFrame
    passages: pd.DataFrame
    dev: DevSet
    stages: tuple[Stage, ...] = ()
    mine_again: Callable[[Encoder, list[str]], pd.DataFrame] | None = None
    original: Path | None = None
    judge: DevSet | None = None

    def summary(self) -> dict[str, Any]:
        """What was trained on, for report and model card: counts, and hashes by which it can be known again."""
        trained = self.queries[self.queries["query_id"].isin(self.mined["query_id"])]
        counts = {}
        for column in ("kind", "origin"):
            if column in trained:
                counts[column] = {str(name): int(count) for name, count in trained[column].value_counts().items()}
        return {
            "queries": len(trained),
            "passages": len(self.passages),
            **counts,
            "hashes": {
                "queries": table_hash(trained[["query_id", "text"]]),
                "mined": table_hash(self.mined[["query_id", "positive_ids", "negative_ids"]]),
                "passages": table_hash(self.passages[["passage_id", "title", "text"]]),
            },
        }

    def mined_for(self, stage: Stage, encoder: Encoder) -> pd.DataFrame:
        """The rows of `mined` that a stage trains on.

        Raises:
            ValueError: there is none, or the stage wants fresh negatives and nothing was given to find them.
        """
        chosen = self.mined
        if stage.query_ids is not None:
            chosen = chosen[chosen["query_id"].isin(stage.query_ids)]
        if chosen.empty:
            raise ValueError(f"Stage {stage.name!r} has no mined query to train on.")
        if not stage.remine:
            return chosen
        if self.mine_again is None:
            raise ValueError(f"Stage {stage.name!r} wants fresh negatives, but nothing was given to mine them with.")
        return self.mine_again(encoder, chosen["query_id"].tolist())
