"""Vectors that were computed before, kept in shards under the hash of all that decides them."""

import hashlib
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from ragsmith.store import is_complete, publish_directory, recover

logger = logging.getLogger(__name__)

DIGEST = hashlib.sha256().digest_size
Compute = Callable[[Sequence[str]], Iterator[tuple[int, np.ndarray]]]


class VectorCache:
    """Vectors of texts in a folder, one subfolder per key.

    A shard is a published folder with `texts.bin` (sha256 of each text) and `vectors.npy`. A process that dies loses
    the shard that it was computing; one that is cut short or altered is removed and computed again.

    Args:
        folder: of this cache alone. It holds one key: what another left is removed when a new one has succeeded.
        key: hash of all that decides a vector but the text.
        dimension: length of a vector.
    """

    def __init__(self, folder: Path, key: str, dimension: int) -> None:
        self.folder = folder
        self.place = folder / key
        self.dimension = dimension

    def vectors(self, texts: Sequence[str], compute: Compute, advance: Callable[[int], None]) -> np.ndarray:
        """Vectors of the texts; those that are not there are computed and stored, each text once.

        Args:
            texts: any number, in any order.
            compute: gives vectors of texts in consecutive blocks: number of the first, and the rows. Each is a shard.
            advance: told how many texts are done.
        Returns:
            float32, shape (len(texts), dimension), in the order of `texts`.
        """
        result = np.empty((len(texts), self.dimension), dtype=np.float32)
        place_of: dict[bytes, int] = {}
        first = np.empty(len(texts), dtype=np.int64)
        for number, text in enumerate(texts):
            first[number] = place_of.setdefault(digest(text), number)
        missing = place_of.copy()
        for shard in self.shards():
            used = self._read(shard, place_of, missing, result)
            if not used:
                shutil.rmtree(shard)  # of texts that are gone
        advance(len(texts) - len(missing))
        wanted, places = list(missing), np.fromiter(missing.values(), np.int64, len(missing))
        for start, block in compute(Selection(texts, places)):
            here = slice(start, start + len(block))
            self._write(wanted[here], block)
            result[places[here]] = block
            advance(len(block))
        again = np.flatnonzero(first != np.arange(len(texts)))  # texts that stood there before
        result[again] = result[first[again]]
        self._remove_other_keys()
        return result

    def shards(self) -> list[Path]:
        """The whole shards of this key; what a process left unfinished, or someone altered, is removed."""
        if not self.place.is_dir():
            return []
        for staging in self.place.glob(".*.staging-*"):
            recover(self.place / staging.name[1:].partition(".staging-")[0])
        found = []
        for shard in sorted(path for path in self.place.iterdir() if path.is_dir() and path.name[0] != "."):
            if is_complete(shard):
                found.append(shard)
            else:
                logger.warning("%s is cut short or altered: its vectors are computed again.", shard)
                shutil.rmtree(shard)
        return found

    def _read(self, shard: Path, wanted: dict[bytes, int], missing: dict[bytes, int], into: np.ndarray) -> int:
        """Copy the vectors that are wanted; how many there were."""
        held = (shard / "texts.bin").read_bytes()
        digests = [held[start : start + DIGEST] for start in range(0, len(held), DIGEST)]
        rows = [row for row, text in enumerate(digests) if text in wanted]
        if rows:
            stored = np.load(shard / "vectors.npy", allow_pickle=False)
            into[[wanted[digests[row]] for row in rows]] = stored[rows]
        for row in rows:
            missing.pop(digests[row], None)
        return len(rows)

    def _write(self, digests: Sequence[bytes], vectors: np.ndarray) -> None:
        def write(staging: Path) -> None:
            (staging / "texts.bin").write_bytes(b"".join(digests))
            np.save(staging / "vectors.npy", vectors, allow_pickle=False)

        name = hashlib.sha256(b"".join(digests)).hexdigest()[:32]
        publish_directory(self.place / name, write)

    def _remove_other_keys(self) -> None:
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                if path.is_dir() and path != self.place:
                    shutil.rmtree(path)


class Selection(Sequence[str]):
    """Some of many texts, without copying them."""

    def __init__(self, texts: Sequence[str], places: np.ndarray) -> None:
        self.texts = texts
        self.places = places

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> list[str]: ...
    def __getitem__(self, number: int | slice) -> str | list[str]:
        if isinstance(number, slice):
            return [self.texts[place] for place in self.places[number]]
        return self.texts[int(self.places[number])]


def digest(text: str) -> bytes:
    """What a text is found by; a lone surrogate, which no encoding has, counts as itself."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
