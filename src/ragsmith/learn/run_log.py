"""What a training notes as it goes: JSON lines, and events for TensorBoard."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def unrecorded(kind: str, at: int, figures: dict[str, float]) -> None:
    """What the other processes do in place of writing the log."""


@contextmanager
def run_log(work: Path, step: int) -> Iterator[Any]:
    """Log figures as JSONL and for TensorBoard; lines after `step`, which a killed run left, are dropped."""
    from torch.utils.tensorboard import SummaryWriter

    path = work / "log.jsonl"
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
    shortened = work / "log.jsonl.new"  # renamed, for a process that dies while it writes would lose the lines
    shortened.write_text("".join(line + "\n" for line in kept), "utf-8")
    shortened.replace(path)
    with (
        path.open("a", encoding="utf-8") as file,
        SummaryWriter(str(work / "tensorboard"), purge_step=step + 1) as board,
    ):

        def record(kind: str, at: int, figures: dict[str, float]) -> None:
            file.write(json.dumps({"kind": kind, "step": at, **figures}) + "\n")
            file.flush()
            for name, value in figures.items():
                board.add_scalar(f"{kind}/{name}", value, at)

        yield record
