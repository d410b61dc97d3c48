"""Encoding the knowledge base in a process of its own, from a copy of the weights, while training goes on."""

import contextlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from ragsmith.compute.device import Machine
from ragsmith.compute.ranks import die_with_parent
from ragsmith.retrieve.encoder import Encoder
from ragsmith.store import is_complete, publish_directory, recover

logger = logging.getLogger(__name__)

JOB, MODEL, TEXTS, RESULT, LOG = "job.json", "model", "texts.parquet", "result", "stderr.txt"
ENDS_WITHIN = 10.0  # seconds: a process that is killed is gone at once, unless it hangs in the kernel


class BackgroundRefresh:
    """A refresh that is under way.

    Its folder holds the job (weights, texts) and, when the process is done, the vectors. Both are whole or not there:
    a run that was killed begins the same refresh again, or finds it done.

    Args:
        encoder: copied as it is now.
        texts: the passages.
        folder: for this refresh alone; what it holds of another one is replaced.
        step: of training, when the weights were copied.
    """

    def __init__(self, encoder: Encoder, texts: Sequence[str], folder: Path, step: int) -> None:
        self.step = step
        self.folder = folder
        self.reason = ""

        def write(staging: Path) -> None:
            (staging / MODEL).mkdir()
            training = encoder.model.training
            encoder.model.save(str(staging / MODEL), create_model_card=False, safe_serialization=True)
            encoder.model.train(training)
            pd.DataFrame({"text": list(texts)}).to_parquet(staging / TEXTS, index=False)
            job = {
                "machine": asdict(encoder.machine),
                "max_tokens": encoder.max_tokens,
                "batch_tokens": encoder.batch_tokens,
            }
            (staging / JOB).write_text(json.dumps(job), "utf-8")

        recover(folder / "job")
        if not is_complete(folder / "job"):
            publish_directory(folder / "job", write)
        self._start()

    @classmethod
    def again(cls, folder: Path, step: int) -> "BackgroundRefresh":
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
        found.step, found.folder, found.reason = step, folder, ""
        found._start()
        return found

    def _start(self) -> None:
        recover(self.folder / RESULT)
        self.process: subprocess.Popen[bytes] | None = None
        if is_complete(self.folder / RESULT):
            return
        with (self.folder / LOG).open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ragsmith.read.background", str(self.folder), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    def vectors(self, timeout: float) -> np.ndarray | None:
        """Wait for the vectors.

        Args:
            timeout: seconds to wait; a process that is not done then is ended.
        Returns:
            float32 of shape (passages, dimension); None when the process failed or was ended: see `reason`.
        """
        status: int | None = None
        try:
            status = self.process.wait(timeout) if self.process is not None else 0
        except subprocess.TimeoutExpired:
            self.stop()
        # What is whole counts, however the process ended: a run that goes on from a checkpoint would take it as well.
        if is_complete(self.folder / RESULT):
            return np.asarray(np.load(self.folder / RESULT / "vectors.npy", allow_pickle=False), dtype=np.float32)
        if status is None:
            self.reason = f"it was ended, for training had waited {timeout:g} s for it (refresh.timeout)"
            return None
        said = (self.folder / LOG).read_text("utf-8", errors="replace").strip().splitlines()
        self.reason = f"exit status {status}" + (f": {said[-1][:300]}" if said else "")
        return None

    def stop(self) -> None:
        """End the process; its result is not wanted any more."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # it ends when the kernel lets it, and nobody waits
                self.process.wait(ENDS_WITHIN)


def work(folder: Path) -> None:
    """What the process does.

    Raises:
        ValueError: the job is not as it was written.
    """
    if not is_complete(folder / "job"):
        raise ValueError(f"{folder / 'job'} is missing or altered")
    job = json.loads((folder / "job" / JOB).read_text("utf-8"))
    encoder = Encoder.load(
        folder / "job" / MODEL, Machine(**job["machine"]), job["max_tokens"], batch_tokens=job["batch_tokens"]
    )
    texts = pd.read_parquet(folder / "job" / TEXTS)["text"].tolist()
    vectors = encoder.encode(texts, "passage")
    publish_directory(folder / RESULT, lambda staging: np.save(staging / "vectors.npy", vectors, allow_pickle=False))


if __name__ == "__main__":
    die_with_parent()
    # One that died before that would leave this process at work beside the one that the next run starts.
    if os.getppid() != int(sys.argv[2]):
        sys.exit("the training that began it has ended")
    work(Path(sys.argv[1]))
