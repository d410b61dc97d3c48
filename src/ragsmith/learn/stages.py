"""The parts of a training that follow each other, each from what the one before has learned."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from ragsmith.learn.contrastive import DevSet
from ragsmith.retrieve.encoder import Encoder


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
        dev: steers training and decides at the gate.
        stages: one after the other; none means one stage with all mined queries.
        mine_again: gives `mined` of given query ids anew, by the model that it is handed; needed by stages that ask.
    """

    queries: pd.DataFrame
    mined: pd.DataFrame
    passages: pd.DataFrame
    dev: DevSet
    stages: tuple[Stage, ...] = ()
    mine_again: Callable[[Encoder, list[str]], pd.DataFrame] | None = None

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
