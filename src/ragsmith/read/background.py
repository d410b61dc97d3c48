"""Encoding the knowledge base apart from the training, from a copy of the weights, while training goes on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ragsmith.read.refresh_job import RESULT, write_job
from ragsmith.read.workers import WORKERS, Background, Worker
from ragsmith.retrieve.encoder import Encoder
from ragsmith.store import is_complete, recover


class BackgroundRefresh:
    """A refresh that is under way.

    Its folder holds the job and, when the work is done, the vectors. Both are whole or not there: a run that was
    killed begins the same refresh again, or finds it done.

    Args:
        encoder: copied as it is now.
        texts: the passages.
        folder: for this refresh alone.
        step: of training, when the weights were copied.
        background: who works on it, see `ragsmith.read.workers`.
    """

    def __init__(
        self, encoder: Encoder, texts: Sequence[str], folder: Path, step: int, background: Background = "process"
    ) -> None:
        self.step = step
        self.folder = folder
        self.background = background
        self.reason = ""
        write_job(encoder, texts, folder)
        self._start()

    @classmethod
    def again(cls, folder: Path, step: int, background: Background = "process") -> "BackgroundRefresh":
        """The refresh that a killed run had under way.

        Raises:
            ValueError: its job is missing or altered.
        """
        if not is_complete(folder / "job"):
            raise ValueError(
                f"{folder / 'job'}, the refresh that the checkpoint waits for, is missing or altered. Remove "
                f"{folder.parent.parent} to train anew."
            )
        found = cls.__new__(cls)
        found.step, found.folder, found.background, found.reason = step, folder, background, ""
        found._start()
        return found

    def _start(self) -> None:
        recover(self.folder / RESULT)
        done = is_complete(self.folder / RESULT)
        self.worker: Worker | None = None if done else WORKERS[self.background](self.folder)

    def vectors(self, timeout: float) -> np.ndarray | None:
        """Wait for the vectors.

        Args:
            timeout: seconds to wait; work that is not done then is ended.
        Returns:
            float32 of shape (passages, dimension); None when the work failed or was ended: see `reason`.
        """
        try:
            reason = self.worker.failure(timeout) if self.worker is not None else ""
        except TimeoutError:
            self.stop()
            reason = f"it was ended, for training had waited {timeout:g} s for it (refresh.timeout)"
        # What is whole counts, however the work ended: a run that goes on from a checkpoint would take it as well.
        if is_complete(self.folder / RESULT):
            return np.asarray(np.load(self.folder / RESULT / "vectors.npy", allow_pickle=False), dtype=np.float32)
        self.reason = reason or f"it left no result in {self.folder}"
        return None

    def stop(self) -> None:
        """End the work; its result is not wanted any more."""
        if self.worker is not None:
            self.worker.stop()
