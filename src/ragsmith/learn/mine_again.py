"""Fresh negatives in the middle of a training, by the model as it is then (ANCE, Xiong et al. 2021)."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ragsmith.compute.device import Machine
from ragsmith.compute.ranks import rank, wait_for_all, world
from ragsmith.learn.stages import table_hash
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.index import DenseIndex
from ragsmith.retrieve.mine import mine_hard_negatives
from ragsmith.retrieve.mining_data import MiningData, MiningSettings
from ragsmith.retrieve.models import model_hash
from ragsmith.retrieve.passage_text import passage_inputs
from ragsmith.retrieve.teacher import Teacher
from ragsmith.store import current_provenance, hash_json, publish_file


@dataclass(frozen=True)
class FreshNegatives:
    """Mines given queries again; see `RetrieverData.mine_again`.

    Plain data, so that several processes can be handed it: the first of them mines, and all train on what it found.

    Attributes:
        queries: query_id, text.
        positives: passage ids per query id.
        passages: passage_id, document_id, title, text.
        pool: ids of the passages that may become negatives.
        settings: those of the first mining.
        machine: where it computes.
        work: vectors, a teacher's scores, and what was found are kept here, so that a killed run does not compute
            again what it had.
        given, positive_scores: see `MiningData`.
        reranker: folder of the cross-encoder that judges; None judges by cosine.
        batch_tokens: see `Teacher`.
    """

    queries: pd.DataFrame
    positives: dict[str, list[str]]
    passages: pd.DataFrame
    pool: set[str]
    settings: MiningSettings
    machine: Machine
    work: Path
    given: pd.DataFrame | None = None
    reranker: Path | None = None
    batch_tokens: int = 16_384
    positive_scores: pd.DataFrame | None = None

    def __call__(self, encoder: Encoder, query_ids: list[str]) -> pd.DataFrame:
        """query_id, positive_ids, negative_ids, negative_scores, teacher_scores, by the encoder's own vectors."""
        for_all = self.work / "mined.parquet"
        if rank() == 0:
            found = self.work / f"mined-{self._key(encoder, query_ids)[:16]}.parquet"
            if not found.is_file():
                self.work.mkdir(parents=True, exist_ok=True)
                mined = self._mined(encoder, query_ids)
                publish_file(found, lambda path: mined.to_parquet(path, index=False))
            table = pd.read_parquet(found)
            if world() == 1:
                return table
            publish_file(for_all, lambda path: table.to_parquet(path, index=False))
        wait_for_all()  # and nobody mines again before all have trained on this
        return pd.read_parquet(for_all)

    def _key(self, encoder: Encoder, query_ids: list[str]) -> str:
        """Hash of all that decides what is found: a stage that is done asks again when a killed run goes on."""
        provenance = current_provenance()
        return hash_json(
            [
                provenance.fingerprint if provenance else None,
                [tower.identity() for tower in encoder.different_towers],
                [encoder.prompt("query"), encoder.prompt("passage")],
                asdict(self.machine),
                asdict(self.settings),
                query_ids,
                table_hash(self.queries[["query_id", "text"]]),
                table_hash(self.passages[["passage_id", "document_id", "title", "text"]]),
                {query_id: list(self.positives[query_id]) for query_id in query_ids},
                sorted(self.pool),
                None if self.given is None else table_hash(self.given),
                None if self.positive_scores is None else table_hash(self.positive_scores),
                None if self.reranker is None else model_hash(str(self.reranker)),
            ]
        )

    def _mined(self, encoder: Encoder, query_ids: list[str]) -> pd.DataFrame:
        label = "mining again, passages"
        vectors = encoder.encode(passage_inputs(self.passages), "passage", label, cache=self.work / "fresh")
        chosen = self.queries.set_index("query_id").loc[query_ids].reset_index()
        data = MiningData(
            chosen,
            encoder.encode(chosen["text"].tolist(), "query"),
            {query_id: self.positives[query_id] for query_id in query_ids},
            DenseIndex(self.passages["passage_id"].tolist(), vectors),
            self.passages,
            self.pool,
            self.given,
            self.positive_scores,
        )
        teacher = None
        if self.reranker is not None:
            teacher = Teacher.load(self.reranker, self.machine, self.work / "teacher", self.batch_tokens)
        return mine_hard_negatives(data, self.settings, self.machine, teacher).table

    def write(self, folder: Path) -> None:
        """Leave everything as files in a folder, which is made."""
        folder.mkdir(parents=True, exist_ok=True)
        tables = {
            "queries": self.queries,
            "passages": self.passages,
            "given": self.given,
            "positive_scores": self.positive_scores,
        }
        for name, table in tables.items():
            if table is not None:
                table.to_parquet(folder / f"{name}.parquet", index=False)
        content = {
            "positives": self.positives,
            "pool": sorted(self.pool),
            "settings": asdict(self.settings),
            "machine": asdict(self.machine),
            "work": str(self.work.resolve()),
            "given": self.given is not None,
            "positive_scores": self.positive_scores is not None,
            "reranker": None if self.reranker is None else str(self.reranker.resolve()),
            "batch_tokens": self.batch_tokens,
        }
        (folder / "fresh.json").write_text(json.dumps(content), "utf-8")

    @classmethod
    def read(cls, folder: Path) -> "FreshNegatives":
        """The inverse of `write`."""
        content: dict[str, Any] = json.loads((folder / "fresh.json").read_text("utf-8"))
        return cls(
            pd.read_parquet(folder / "queries.parquet"),
            content["positives"],
            pd.read_parquet(folder / "passages.parquet"),
            set(content["pool"]),
            MiningSettings.of_json(content["settings"]),
            Machine(**content["machine"]),
            Path(content["work"]),
            pd.read_parquet(folder / "given.parquet") if content["given"] else None,
            None if content["reranker"] is None else Path(content["reranker"]),
            content["batch_tokens"],
            pd.read_parquet(folder / "positive_scores.parquet") if content["positive_scores"] else None,
        )
