"""Train reader and retriever once undisturbed, then kill the training at many moments, go on, and compare.

Usage: killed_rag.py FOLDER in_process|background|questions; prints JSON:
{"points": {"refresh": …, "save": …, "end": …}, "different": […]}. With `questions` their encoder is trained alone, and
there is no refresh.
Each run is a fork of this process, which itself computes nothing.
"""

import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

# Imported once here, or in each fork.
import faiss  # noqa: F401
import pandas as pd
import sentence_transformers  # noqa: F401
import torch
import torch._dynamo
import torch.utils.tensorboard
import transformers.models.bert.modeling_bert  # noqa: F401
from killed import watch

from ragsmith.compute.device import Machine
from ragsmith.learn.loop import LoopSettings
from ragsmith.read.extractive import ExtractiveReader, ReaderSettings
from ragsmith.read.knowledge_base import KnowledgeBase
from ragsmith.read.live_index import RefreshSettings
from ragsmith.read.rag_settings import RagQuestion, RagSettings
from ragsmith.read.rag_task import RagTask
from ragsmith.read.train_rag import RagPlan, train_rag
from ragsmith.retrieve.build import build_index
from ragsmith.retrieve.models import resolve_model

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}
MACHINE = Machine("cpu", "fp32")
TOWNS = {"Ulm": "red", "Jena": "green", "Bonn": "black", "Kiel": "grey", "Worms": "pink", "Gera": "gold"}
PASSAGES = pd.DataFrame(
    [(f"p{n}", town, f"The car in {town} is {colour}.") for n, (town, colour) in enumerate(TOWNS.items())],
    columns=["passage_id", "title", "text"],
)
QUESTIONS = [
    RagQuestion(f"q{n}", f"What colour is the car in {town}?", (colour,), frozenset({f"p{n}"}))
    for n, (town, colour) in enumerate(TOWNS.items())
]


def kind_of(path: str) -> str:
    """What a change on the disk belongs to."""
    if "/fit/index/" in path:
        return "refresh"
    return "save" if "/fit/" in path else "end"


def kill_in_step(step: int) -> None:
    """End this process by SIGKILL when the loss of a step is computed, before the weights change."""
    loss = RagTask.loss

    def dying(self: RagTask, epoch: int, number: int) -> Any:
        found = loss(self, epoch, number)
        if self.done == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    RagTask.loss = dying  # type: ignore[method-assign]


def in_fork(what: Any) -> bool:
    """Do something in a fork; whether it came to its end."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1] == 0
    try:
        torch.set_num_threads(1)
        what()
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)


class Runs:
    """The same training, killed or not."""

    def __init__(self, folder: Path, how: str) -> None:
        background = how == "background"
        self.folder, self.model = folder, resolve_model("random:bert-1x32")
        self.result = folder / "result.json"
        refresh = RefreshSettings(every=2, overlap=0.0, budget=100.0, background=background, lag=2)
        # Where processes are started, one is enough: each takes seconds to begin.
        epochs = 1 if background else 2
        loop = LoopSettings(epochs, 1e-3, evaluations=1, patience=9, checkpoint_seconds=0.0)
        settings = RagSettings(
            encoders="questions" if how == "questions" else "both",
            batch_size=1 if background else 2,
            passages=2,
            contrastive_weight=0.5,
            retriever_rate=1.0,
        )
        self.plan = RagPlan(settings, refresh, loop, (0.0,))
        assert in_fork(lambda: build_index(self.model, PASSAGES, MACHINE, 512, folder, "")), "no index"

    def train(self, work: Path, last: int = 0, step: int = 0) -> bool:
        """Train in a fork that is killed at a change of the disk, in a step, or not at all."""

        def run() -> None:
            if step:
                kill_in_step(step)
            seen = watch(work, last, CHANGES, lambda event, path: kind_of(path))
            reader = ExtractiveReader.load(self.model, ReaderSettings(48, 6), MACHINE)
            base = KnowledgeBase(self.model, self.folder / "index", PASSAGES)
            left = train_rag(reader, base, QUESTIONS, QUESTIONS, self.plan, MACHINE, work)
            changes = list(seen)
            del left.report["index"]["seconds"]
            files = [*sorted(left.retriever.rglob("*.safetensors")), *sorted(left.retriever.rglob("*.json"))]
            files += [left.reader / "model.safetensors", left.reader / "reader.json"]
            files += [left.index / "vectors.npy", left.index / "index.json"]
            digest = {
                "files": [hashlib.sha256(file.read_bytes()).hexdigest() for file in files],
                "report": json.loads(json.dumps(left.report)),
                "log": left.log.read_text("utf-8"),
            }
            self.result.write_text(json.dumps({"changes": changes, "digest": digest}))

        return in_fork(run)


def spread(places: list[int], count: int) -> list[int]:
    """So many of the places, from the first to the last."""
    return [places[round(number * (len(places) - 1) / (count - 1))] for number in range(count)]


def main() -> None:
    """See above."""
    folder, how = Path(sys.argv[1]), sys.argv[2]
    background = how == "background"
    runs = Runs(folder, how)
    assert runs.train(folder / "whole"), "the undisturbed run failed"
    whole = json.loads(runs.result.read_text())
    index = whole["digest"]["report"]["index"]
    assert (index["refreshes"] >= 2) == (how != "questions") and not index["failed"]
    changes = whole["changes"]
    places = {kind: [n for n, one in enumerate(changes, 1) if one == kind] for kind in ("refresh", "save", "end")}
    counts = {"refresh": 2, "save": 0, "end": 0} if background else {"refresh": 4, "save": 4, "end": 2}
    if how == "questions":
        del places["refresh"]  # the folder is put in order, and nothing is written there
        counts = {"save": 3, "end": 2}
    moments = [{"last": last} for kind, count in counts.items() if count for last in spread(places[kind], count)]
    moments += [{"step": step} for step in ((4,) if background else (1, 5))]
    different = []
    for number, moment in enumerate(moments):
        work = folder / f"killed{number}"
        runs.result.unlink(missing_ok=True)
        assert not runs.train(work, **moment), f"not killed at {moment}"
        if "last" in moment and not background:  # and once more, soon after it has gone on
            runs.train(work, last=1 + moment["last"] % 9)
        if not runs.train(work) or json.loads(runs.result.read_text())["digest"] != whole["digest"]:
            different.append(moment)
    print(json.dumps({"points": {kind: len(some) for kind, some in places.items()}, "different": different}))


if __name__ == "__main__":
    main()
