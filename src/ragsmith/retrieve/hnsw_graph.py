"""The graph of an HNSW index as plain arrays: written, read, and checked before any of it is followed."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

LEVELS, NEIGHBORS = "hnsw_levels.npy", "hnsw_neighbors.npy"
AT_ONCE = 2**16  # passages whose links are followed together


class GraphFault(ValueError):
    """A graph that is damaged, altered, or not of these vectors; the text says how."""


@dataclass(frozen=True)
class HnswGraph:
    """Links between passages, laid out as faiss holds them.

    faiss' own reader takes counts and offsets from the file and follows links without looking whether they lead
    anywhere: a file of a stranger could have it read or write any memory. Here two arrays are kept, offsets are
    computed, and `check` is called before faiss sees them.

    Attributes:
        levels: int32, shape (passages,): in how many levels a passage is, at least 1.
        neighbors: int32: for each passage the links of its levels, lowest first; −1 where there is none.
        entry_point: where searches begin, a passage of the highest level; −1 if there is no passage.
    """

    levels: np.ndarray
    neighbors: np.ndarray
    entry_point: int

    def offsets(self, slots: np.ndarray) -> np.ndarray:
        """Where the links of each passage begin in `neighbors`, and their end: int64, shape (passages + 1,).

        Args:
            slots: room for links in the levels below each level; slots[0] is 0.
        """
        return np.concatenate([[0], np.cumsum(slots.astype(np.int64)[self.levels])])

    def check(self, passages: int, slots: np.ndarray) -> None:
        """Refuse a graph that a search could leave.

        Args:
            passages: how many there must be.
            slots: see `offsets`.
        Raises:
            GraphFault: a level or a link that cannot be, arrays of another length, or a wrong entry point.
        """
        levels, neighbors = self.levels, self.neighbors
        if levels.shape != (passages,):
            raise GraphFault(f"{LEVELS} holds {len(levels)} numbers in place of {passages}")
        if passages and not 1 <= levels.min() <= levels.max() < len(slots):
            raise GraphFault(f"{LEVELS} holds {levels.min()} to {levels.max()} in place of 1 to {len(slots) - 1}")
        offsets = self.offsets(slots)
        if neighbors.shape != (offsets[-1],):
            raise GraphFault(f"{NEIGHBORS} holds {len(neighbors)} numbers in place of {offsets[-1]}")
        if not passages:
            return
        if not -1 <= neighbors.min() <= neighbors.max() < passages:
            raise GraphFault(f"{NEIGHBORS} leads to {neighbors.min()} and {neighbors.max()}: there are {passages}")
        if not 0 <= self.entry_point < passages or levels[self.entry_point] != levels.max():
            raise GraphFault(f"entry point {self.entry_point} is not in the highest level")
        for level in range(1, int(levels.max())):
            begins = offsets[np.flatnonzero(levels > level)]
            links = neighbors[begins[:, None] + np.arange(slots[level], slots[level + 1])]
            # At a passage that is not in the level, a search would read the links of another one, or past the end.
            if (levels[links[links >= 0]] <= level).any():
                raise GraphFault(f"{NEIGHBORS} leads, in level {level}, to passages that are not in it")

    def unreached(self, slots: np.ndarray) -> np.ndarray:
        """Passages that no path of the lowest level leads to from the entry point; their row numbers, in order."""
        offsets, seen = self.offsets(slots), np.zeros(len(self.levels), dtype=bool)
        frontier = np.asarray([self.entry_point])
        seen[frontier] = True
        while len(frontier):
            found = []
            for begin in range(0, len(frontier), AT_ONCE):
                begins = offsets[frontier[begin : begin + AT_ONCE]]
                links = self.neighbors[begins[:, None] + np.arange(slots[1])]
                links = links[links >= 0]
                found.append(np.unique(links[~seen[links]]))
                seen[found[-1]] = True
            frontier = np.concatenate(found)
        return np.flatnonzero(~seen)

    def sha256(self) -> str:
        """Hash of all three: what was altered by chance, and leads somewhere all the same, is seen too."""
        total = hashlib.sha256(f"{self.entry_point} {len(self.levels)} ".encode())
        total.update(np.ravel(self.levels).data)
        total.update(np.ravel(self.neighbors).data)
        return total.hexdigest()

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the arrays into a folder.

        Returns:
            What `load` must be told, as JSON holds it.
        """
        np.save(folder / LEVELS, self.levels, allow_pickle=False)
        np.save(folder / NEIGHBORS, self.neighbors, allow_pickle=False)
        return {"entry_point": self.entry_point, "sha256": self.sha256()}

    @classmethod
    def load(cls, folder: Path, told: Any) -> "HnswGraph":
        """Read what `save` wrote; `check` is still to be called.

        Args:
            folder: see `save`.
            told: what `save` returned.
        Raises:
            GraphFault: a file is missing, cut short or no plain array, or another content than was written.
        """
        if not isinstance(told, dict) or type(told.get("entry_point")) is not int:
            raise GraphFault("index.json does not tell the entry point of its graph")
        # Mapped, and then copied: a header that promises more than the file holds is refused before memory is asked
        # for, and what has been checked cannot change afterwards.
        arrays = []
        for name in (LEVELS, NEIGHBORS):
            try:
                arrays.append(np.array(np.load(folder / name, mmap_mode="r", allow_pickle=False)))
            except (OSError, EOFError, ValueError, OverflowError, TypeError) as error:
                raise GraphFault(f"{name} cannot be read ({error})") from error
            if arrays[-1].dtype != np.int32 or arrays[-1].ndim != 1:
                raise GraphFault(f"{name} holds {arrays[-1].dtype} {arrays[-1].shape} in place of one row of int32")
        graph = cls(arrays[0], arrays[1], told["entry_point"])
        if graph.sha256() != told.get("sha256"):
            raise GraphFault(f"{LEVELS} or {NEIGHBORS} is not what was written")
        return graph
