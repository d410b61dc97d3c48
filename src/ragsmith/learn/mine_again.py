"""Fresh negatives in the middle of a training, by the model as it is then (ANCE, Xiong et al. 2021)."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ragsmith.compute.device import Machine
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.index import DenseIndex
from ragsmith.retrieve.mine import MiningData, MiningSettings, mine_hard_negatives
from ragsmith.retrieve.passage_text import passage_inputs
from ragsmith.retrieve.teacher import Teacher


@dataclass(frozen=True)
class FreshNegatives:
    """Mines given queries again; see `RetrieverData.mine_again`.

    Attributes:
        queries: query_id, text.
        positives: passage ids per query id.
        passages: passage_id, document_id, title, text.
        pool: ids of the passages that may become negatives.
        settings: those of the first mining.
        machine: where it computes.
        work: vectors are kept here, so that a killed run does not encode again what it had.
        teacher: None judges by cosine.
        given: see `MiningData`.
    """

    queries: pd.DataFrame
    positives: dict[str, list[str]]
    passages: pd.DataFrame
    pool: set[str]
    settings: MiningSettings
    machine: Machine
    work: Path
    teacher: Teacher | None = None
    given: pd.DataFrame | None = None

    def __call__(self, encoder: Encoder, query_ids: list[str]) -> pd.DataFrame:
        """query_id, positive_ids, negative_ids, negative_scores, teacher_scores, by the encoder's own vectors."""
        vectors = encoder.encode(passage_inputs(self.passages), "passage", "mining again, passages", cache=self.work)
        chosen = self.queries.set_index("query_id").loc[query_ids].reset_index()
        data = MiningData(
            chosen,
            encoder.encode(chosen["text"].tolist(), "query"),
            {query_id: self.positives[query_id] for query_id in query_ids},
            DenseIndex(self.passages["passage_id"].tolist(), vectors),
            self.passages,
            self.pool,
            self.given,
        )
        return mine_hard_negatives(data, self.settings, self.machine, self.teacher).table
