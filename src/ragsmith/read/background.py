"""Encoding the knowledge base in a process of its own, from a copy of the weights, while training goes on."""

import json
import logging
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
                [sys.executable, "-m", "ragsmith.read.background", str(self.folder)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    def vectors(self) -> np.ndarray | None:
        """Wait for the vectors, float32 of shape (passages, dimension); None when the process failed: see `reason`."""
        status = self.process.wait() if self.process is not None else 0
        if status == 0 and is_complete(self.folder / RESULT):
            return np.asarray(np.load(self.folder / RESULT / "vectors.npy", allow_pickle=False), dtype=np.float32)
        said = (self.folder / LOG).read_text("utf-8", errors="replace").strip().splitlines()
        self.reason = f"exit status {status}" + (f": {said[-1][:300]}" if said else "")
        return None

    def stop(self) -> None:
        """End the process; its result is not wanted any more."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def work(folder: Path) -> None:
    """What the process does."""
    job = json.loads((folder / "job" / JOB).read_text("utf-8"))
    encoder = Encoder.load(
        folder / "job" / MODEL, Machine(**job["machine"]), job["max_tokens"], batch_tokens=job["batch_tokens"]
    )
    texts = pd.read_parquet(folder / "job" / TEXTS)["text"].tolist()
    vectors = encoder.encode(texts, "passage")
    publish_directory(folder / RESULT, lambda staging: np.save(staging / "vectors.npy", vectors, allow_pickle=False))


if __name__ == "__main__":
    die_with_parent()
    work(Path(sys.argv[1]))
