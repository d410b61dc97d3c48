"""The dense index: unit vectors and ids in a folder that any machine can rebuild its index from."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

RUN_COLUMNS = ["query_id", "passage_id", "score", "rank"]


@dataclass(frozen=True)
class DenseIndex:
    """Exact inner-product search over unit vectors.

    Attributes:
        passage_ids: one per row of `vectors`.
        vectors: float32, shape (passages, dimension).
    """

    passage_ids: list[str]
    vectors: np.ndarray

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest passages of each query.

        Args:
            queries: float32 unit vectors, shape (queries, dimension).
            k: at least 1; cut to the number of passages.
        Returns:
            Scores (cosines, best first) and row numbers, both of shape (queries, k).
        Raises:
            ValueError: the vectors differ in length: the queries come from another model.
        """
        import faiss

        if queries.shape[1] != self.vectors.shape[1]:
            raise ValueError(
                f"The queries have {queries.shape[1]} dimensions and the index {self.vectors.shape[1]}: "
                "they come from different models. Build the index again with the model that encodes the queries."
            )
        # What faiss.IndexFlatIP computes, without the copy of all vectors that it would make first.
        scores, rows = faiss.knn(
            np.ascontiguousarray(queries),
            np.ascontiguousarray(self.vectors),
            min(k, len(self.passage_ids)),
            metric=faiss.METRIC_INNER_PRODUCT,
        )
        return scores, rows

    def run(self, query_ids: Sequence[str], queries: np.ndarray, k: int) -> pd.DataFrame:
        """`search` as a run: query_id, passage_id, score, rank (1 is best)."""
        scores, rows = self.search(queries, k)
        ids = np.asarray(self.passage_ids, dtype=object)
        return run_table(query_ids, [list(ids[row]) for row in rows], [list(score) for score in scores])

    def save(self, folder: Path, made_by: str) -> None:
        """Write vectors, ids and which model made them (`passage_model`); plain arrays and JSON, no pickle."""
        np.save(folder / "vectors.npy", self.vectors, allow_pickle=False)
        meta = {"model": made_by, "dimension": int(self.vectors.shape[1]), "passage_ids": self.passage_ids}
        (folder / "index.json").write_text(json.dumps(meta), "utf-8")

    @classmethod
    def load(cls, folder: Path) -> "DenseIndex":
        """Read what `save` wrote.

        Raises:
            ValueError: the vectors do not fit the ids.
        """
        meta = json.loads((folder / "index.json").read_text("utf-8"))
        vectors = np.load(folder / "vectors.npy", allow_pickle=False)
        if vectors.dtype != np.float32 or vectors.shape != (len(meta["passage_ids"]), meta["dimension"]):
            raise ValueError(f"{folder} is no whole index: vectors {vectors.shape}, {len(meta['passage_ids'])} ids.")
        return cls(meta["passage_ids"], vectors)


def index_model(folder: Path) -> str:
    """Which model made a saved index, as `passage_model` of its folder says it."""
    return str(json.loads((folder / "index.json").read_text("utf-8"))["model"])


def run_table(query_ids: Sequence[str], passages: list[list[str]], scores: list[list[float]]) -> pd.DataFrame:
    """Ranked lists as one run: query_id, passage_id, score, rank (1 is best)."""
    return pd.DataFrame(
        {
            "query_id": [query_id for query_id, found in zip(query_ids, passages, strict=True) for _ in found],
            "passage_id": [passage_id for found in passages for passage_id in found],
            "score": np.asarray([score for found in scores for score in found], dtype=float),
            "rank": [rank for found in passages for rank in range(1, len(found) + 1)],
        },
        columns=RUN_COLUMNS,
    )
