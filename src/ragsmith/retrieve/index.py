"""The dense index: unit vectors and ids in a folder that any machine can rebuild its index from."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from ragsmith.retrieve.exact import nearest
from ragsmith.retrieve.hnsw import Hnsw, HnswSettings
from ragsmith.retrieve.hnsw_graph import GraphFault, HnswGraph

logger = logging.getLogger(__name__)

RUN_COLUMNS = ["query_id", "passage_id", "score", "rank"]
KINDS = ("flat", "hnsw")


@dataclass(frozen=True)
class IndexSettings:
    """Which kind of index is built.

    Attributes:
        kind: `flat` compares each query with every passage; `hnsw` follows a graph; `auto` chooses by size.
        flat_up_to: passages up to which `auto` is flat.
        hnsw: see `HnswSettings`.
    """

    kind: Literal["auto", "flat", "hnsw"] = "auto"
    flat_up_to: int = 1_000_000
    hnsw: HnswSettings = field(default_factory=HnswSettings)

    def chosen(self, passages: int) -> HnswSettings | None:
        """The graph's settings if so many passages are to have one; None for a flat index."""
        flat = passages <= self.flat_up_to if self.kind == "auto" else self.kind == "flat"
        return None if flat else self.hnsw


@dataclass(frozen=True)
class DenseIndex:
    """Inner-product search over unit vectors: exact, or by an HNSW graph.

    Attributes:
        passage_ids: one per row of `vectors`.
        vectors: float32, shape (passages, dimension).
        hnsw: of the graph; None searches exactly.
        saved: the folder that it was loaded from, where a graph may lie.
    """

    passage_ids: list[str]
    vectors: np.ndarray
    hnsw: HnswSettings | None = None
    saved: Path | None = field(default=None, repr=False)

    @property
    def kind(self) -> str:
        """`flat` or `hnsw`."""
        return "flat" if self.hnsw is None else "hnsw"

    def with_vectors(self, vectors: np.ndarray) -> "DenseIndex":
        """The same passages with other vectors, in an index of the same kind."""
        return replace(self, vectors=vectors, saved=None)

    def prepare(self) -> None:
        """Load or build the graph, if there is to be one; else the first search does."""
        _ = self._graph

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
        if queries.shape[1] != self.vectors.shape[1]:
            raise ValueError(
                f"The queries have {queries.shape[1]} dimensions and the index {self.vectors.shape[1]}: "
                "they come from different models. Build the index again with the model that encodes the queries."
            )
        return nearest(queries, self.vectors, k) if self._graph is None else self._graph.search(queries, k)

    def run(self, query_ids: Sequence[str], queries: np.ndarray, k: int) -> pd.DataFrame:
        """`search` as a run: query_id, passage_id, score, rank (1 is best)."""
        scores, rows = self.search(queries, k)
        ids = np.asarray(self.passage_ids, dtype=object)
        return run_table(query_ids, [list(ids[row]) for row in rows], [list(score) for score in scores])

    def save(self, folder: Path, made_by: str) -> None:
        """Write vectors, ids, graph and what made them (`passage_model`); plain arrays and JSON, no pickle."""
        # Written beside and renamed: the vectors may be mapped from the very file.
        np.save(folder / "vectors.part.npy", self.vectors, allow_pickle=False)
        (folder / "vectors.part.npy").replace(folder / "vectors.npy")
        meta = {"model": made_by, "dimension": int(self.vectors.shape[1]), "kind": self.kind}
        if self.hnsw is not None and self._graph is not None:
            meta |= {"hnsw": asdict(self.hnsw), "graph": self._graph.graph().save(folder)}
        meta["passage_ids"] = self.passage_ids
        (folder / "index.json").write_text(json.dumps(meta), "utf-8")

    @classmethod
    def load(cls, folder: Path) -> "DenseIndex":
        """Read what `save` wrote; a graph is read when it is needed, and its vectors are mapped and not read.

        Raises:
            ValueError: a file is damaged, the vectors do not fit the ids or are not finite, or the kind is unknown.
        """
        meta = index_meta(folder)
        hnsw = saved_settings(folder, meta).chosen(len(meta["passage_ids"]))
        try:
            # Copied on write: torch warns of arrays that cannot be written to.
            vectors = np.asarray(np.load(folder / "vectors.npy", mmap_mode="c", allow_pickle=False))
        except (ValueError, EOFError, OSError) as error:
            raise ValueError(f"{folder / 'vectors.npy'} is damaged ({error}). Build the index again.") from error
        if vectors.dtype != np.float32 or vectors.shape != (len(meta["passage_ids"]), meta["dimension"]):
            raise ValueError(f"{folder} is no whole index: vectors {vectors.shape}, {len(meta['passage_ids'])} ids.")
        if hnsw is None:  # the others stay mapped, and are not read here
            vectors = np.array(vectors)
            if not np.isfinite(vectors.sum(dtype=np.float64)):
                raise ValueError(f"{folder / 'vectors.npy'} holds numbers that are not finite. Build the index again.")
        return cls(meta["passage_ids"], vectors, hnsw, folder)

    @cached_property
    def _graph(self) -> Hnsw | None:
        if self.hnsw is None:
            return None
        if self.saved is not None:
            try:
                meta = json.loads((self.saved / "index.json").read_text("utf-8"))
                return Hnsw(self.vectors, self.hnsw, HnswGraph.load(self.saved, meta.get("graph")))
            except (OSError, GraphFault, json.JSONDecodeError) as fault:
                logger.warning("The graph in %s is damaged: %s. It is built again from vectors.", self.saved, fault)
        return Hnsw(self.vectors, self.hnsw)


def index_meta(folder: Path) -> dict[str, Any]:
    """What index.json of a saved index says.

    Raises:
        ValueError: it is not there, or no description of an index.
    """
    path = folder / "index.json"
    try:
        meta = json.loads(path.read_text("utf-8"))
        whole = isinstance(meta["dimension"], int) and all(isinstance(name, str) for name in meta["passage_ids"])
        if not isinstance(meta["passage_ids"], list) or not whole:
            raise TypeError("ids or dimension are of another type")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is no description of an index ({error!r}). Build the index again.") from error
    return dict(meta)


def saved_settings(folder: Path, meta: dict[str, Any] | None = None) -> IndexSettings:
    """The kind that a saved index has, to build another like it.

    Args:
        folder: of the index.
        meta: its index.json, if that has been read.
    Raises:
        ValueError: an unknown kind, or numbers of a graph that cannot be.
    """
    meta = index_meta(folder) if meta is None else meta
    kind = meta.get("kind", "flat")  # of older ones, which were all flat
    if kind not in KINDS:
        raise ValueError(f"{folder / 'index.json'}: unknown kind {kind!r}. There are: {', '.join(KINDS)}.")
    if kind == "flat":
        return IndexSettings("flat")
    try:
        return IndexSettings("hnsw", hnsw=HnswSettings(**meta["hnsw"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / 'index.json'}: its `hnsw` cannot be used ({error}).") from error


def index_model(folder: Path) -> str:
    """Which model made a saved index, as `passage_model` of its folder says it; empty where that is not written.

    Raises:
        ValueError: as `index_meta`.
    """
    return str(index_meta(folder).get("model", ""))


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
