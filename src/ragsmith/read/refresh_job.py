"""A refresh as a folder: the job (weights, texts), and beside it, when it is done, the result (vectors).

Run as a program, this is the process that works on it; arguments: the folder, and the process that began it.
"""

import json
import os
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

JOB, MODEL, TEXTS, RESULT = "job.json", "model", "texts.parquet", "result"


def write_job(encoder: Encoder, texts: Sequence[str], folder: Path) -> None:
    """Copy the weights as they are now, and the texts; a job that is there already is this one, and stays."""

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


def work(folder: Path) -> None:
    """Encode the texts of the job in a folder and leave the result there.

    Raises:
        ValueError: the job is not as it was written, or not to be seen from here.
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


def end_with(parent: int) -> None:
    """Let this process end with the one that began it; at once when that has ended already."""
    die_with_parent()
    # One that died before that would leave this process at work beside the one that the next run starts.
    if os.getppid() != parent:
        sys.exit("the training that began it has ended")


if __name__ == "__main__":
    end_with(int(sys.argv[2]))
    work(Path(sys.argv[1]))
