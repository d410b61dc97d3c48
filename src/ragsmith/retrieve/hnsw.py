"""Approximate search among very many passages: a hierarchical navigable small world (HNSW) of their vectors."""

import logging
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ragsmith.retrieve.exact import nearest
from ragsmith.retrieve.hnsw_graph import HnswGraph

logger = logging.getLogger(__name__)

# Of numbers that come out of a file: beyond them a search or a graph takes memory without end.
SMALLEST = {"M": 2, "efConstruction": 1, "efSearch": 1}
LARGEST = {"M": 256, "efConstruction": 10_000, "efSearch": 10_000}
RANGED = 100_000  # passages whose numbers give the range of the eight bits
ROUNDS = 5  # of leading to passages that no path leads to
BRIDGED, BRIDGES = 64, 8  # of so many nearest passages, at most so many get a link to one that no path leads to
BLOCK_BYTES = 2**24  # vectors of candidates that are scored at once


@dataclass(frozen=True)
class HnswSettings:
    """Size of the graph and care in building and searching it, by the names of faiss and of Malkov & Yashunin (2018).

    Attributes:
        M: links of a passage in the upper levels; the lowest, which holds all passages, has twice as many.
        efConstruction: candidates that the links of a new passage are chosen from.
        efSearch: candidates of a query, at least as many as passages are wanted; recall and time grow with it.
    Raises:
        ValueError: a number is no whole one, or out of bounds.
    """

    M: int = 32
    efConstruction: int = 100  # noqa: N815
    efSearch: int = 128  # noqa: N815

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if type(value) is not int or not SMALLEST[name] <= value <= LARGEST[name]:
                raise ValueError(f"{name} is {value!r}: it must be from {SMALLEST[name]} to {LARGEST[name]}.")


class Hnsw:
    """A graph over unit vectors, and search in it.

    The graph is followed over a copy of the vectors in eight bits; what it leads to is scored anew with the vectors
    themselves, so the scores are exact cosines and only the choice of candidates is approximate. For 10 million
    passages of 384 numbers the copy takes 3.8 GB and the graph (M 32) 2.7, while the vectors, 15.4 GB, may stay in a
    mapped file of which a query touches `efSearch` rows. faiss.IndexHNSWFlat would hold a second copy of all 15.4 GB,
    and walk through four times as many bytes.

    Same vectors, same graph, however many threads build it: since 1.15 faiss adds passages in batches whose links are
    chosen against what was there before the batch and merged in the order of (distance, number), as ParlayANN does
    (arXiv:2305.04359). Before that, links were made under locks in the order in which threads came.

    Args:
        vectors: float32 unit vectors, shape (passages, dimension); read again in each search.
        settings: see `HnswSettings`.
        graph: what was built before over these vectors; None builds it.
    Raises:
        GraphFault: the graph is none of so many passages, or could lead a search astray.
    """

    def __init__(self, vectors: np.ndarray, settings: HnswSettings, graph: HnswGraph | None = None) -> None:
        import faiss

        self.vectors = vectors
        self.settings = settings
        codes: Any = faiss.IndexScalarQuantizer(
            vectors.shape[1], faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        )
        self.index: Any = faiss.IndexHNSW(codes, settings.M)
        self.index.hnsw.efConstruction = settings.efConstruction
        self.index.hnsw.efSearch = settings.efSearch
        slots = faiss.vector_to_array(self.index.hnsw.cum_nneighbor_per_level)
        if graph is not None:
            graph.check(len(vectors), slots)
        if not len(vectors):
            return
        codes.train(np.ascontiguousarray(vectors[:: -(-len(vectors) // RANGED)]))
        rows = np.ascontiguousarray(vectors)
        if graph is None:
            self.index.add(rows)
            self._connect(slots)
            return
        codes.add(rows)
        hnsw: Any = self.index.hnsw
        faiss.copy_array_to_vector(graph.levels, hnsw.levels)
        faiss.copy_array_to_vector(graph.offsets(slots).astype(np.uint64), hnsw.offsets)
        faiss.copy_array_to_vector(graph.neighbors, hnsw.neighbors)
        hnsw.entry_point, hnsw.max_level = graph.entry_point, int(graph.levels.max()) - 1
        self.index.ntotal = len(vectors)

    def _connect(self, slots: np.ndarray) -> None:
        """Lead to the passages that no path of the lowest level leads to, from those nearest to them with room.

        Groups that lie far apart, and passages that are nearly equal, link among themselves alone: of two groups on
        opposite sides, a search that comes down in the wrong one finds nothing of the other.
        """
        import faiss

        graph = self.graph()
        begins = graph.offsets(slots)
        for _ in range(ROUNDS):
            lost = graph.unreached(slots)
            if not len(lost):
                return
            _, near = self.index.search(np.ascontiguousarray(self.vectors[lost]), BRIDGED)
            for row, candidates in zip(lost, near, strict=True):
                bridges = 0
                for candidate in candidates[candidates >= 0]:
                    links = graph.neighbors[begins[candidate] : begins[candidate] + slots[1]]
                    if links[-1] < 0 and candidate != row and bridges < BRIDGES:
                        links[np.argmax(links < 0)] = row
                        bridges += 1
            faiss.copy_array_to_vector(graph.neighbors, self.index.hnsw.neighbors)
        if len(lost := graph.unreached(slots)):
            logger.warning(
                "To %d of %d passages few paths of the graph lead: not every search will find them. Are there many "
                "equal ones? Raise index.M, or set index.kind to flat.", len(lost), len(self.vectors),
            )  # fmt: skip

    def graph(self) -> HnswGraph:
        """The graph, to be kept; a copy."""
        import faiss

        hnsw = self.index.hnsw
        return HnswGraph(
            faiss.vector_to_array(hnsw.levels), faiss.vector_to_array(hnsw.neighbors), int(hnsw.entry_point)
        )

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest passages among the candidates that the graph leads to; always k.

        Args:
            queries: float32 unit vectors, shape (queries, dimension).
            k: at least 1; cut to the number of passages.
        Returns:
            Scores (cosines, best first; of equal ones the earlier row) and row numbers, both of shape (queries, k).
        """
        candidates = max(k, self.settings.efSearch)
        if len(self.vectors) <= candidates or not len(queries):
            return nearest(queries, self.vectors, k)
        _, found = self.index.search(np.ascontiguousarray(queries), candidates)
        found.sort(axis=1)  # ties go to the earlier row, whatever path led there; −1, for none, is first
        scores, rows = (np.empty((len(queries), k), dtype=kind) for kind in (np.float32, found.dtype))
        block = max(1, BLOCK_BYTES // (candidates * self.vectors.shape[1] * 4))
        for begin in range(0, len(queries), block):
            here = slice(begin, begin + block)
            near = self.vectors[found[here]]  # queries, candidates, dimension
            # Not a matrix product: there, equal passages may get scores that differ in the last digit.
            cosines = np.einsum("qcd,qd->qc", near, queries[here])
            cosines[found[here] < 0] = -np.inf
            best = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
            scores[here] = np.take_along_axis(cosines, best, axis=1)
            rows[here] = np.take_along_axis(found[here], best, axis=1)
        # The graph need not be connected: a search may end before it has seen k passages.
        short = (found >= 0).sum(axis=1) < k
        if short.any():
            scores[short], rows[short] = nearest(queries[short], self.vectors, k)
        return scores, rows
