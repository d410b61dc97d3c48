"""Run the toy training once undisturbed, then kill it at each change of the disk, go on, and compare.

Usage: killed_runs.py FOLDER CHECKPOINT_SECONDS; prints JSON:
{"points": …, "different": [[first kill, second kill], …]}.
Each run is a fork of this process, which itself computes nothing.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import torch
import torch._dynamo  # imported by the first step of an optimizer: once here, or in each fork
import torch.utils.tensorboard
from conftest import ToyTask
from killed import watch
from safetensors.torch import save

from ragsmith.compute.device import Machine
from ragsmith.learn.checkpoints import weights
from ragsmith.learn.loop import LoopSettings, fit

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "shutil.rmtree"}


def run(work: Path, last: int, result: Path, settings: LoopSettings) -> bool:
    """Train in a fork; whether it came to its end."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1] == 0
    try:
        torch.set_num_threads(1)
        task = ToyTask()
        seen = watch(work, last, CHANGES, lambda event, path: event)
        fitted = fit(task, settings, Machine("cpu", "fp32"), work, "toy")
        changes = len(seen)
        best = fitted.checkpoints.best(fitted.state.best_step)
        digest = {
            "weights": hashlib.sha256(save(weights(task.module))).hexdigest(),
            "best": hashlib.sha256(save(best)).hexdigest() if best else None,
            "log": fitted.log.read_text("utf-8"),
            "scores": fitted.state.scores,
        }
        result.write_text(json.dumps({"changes": changes, "digest": digest}))
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)


def main() -> None:
    """See above."""
    folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
    settings = LoopSettings(1, 0.05, evaluations=2, checkpoint_seconds=seconds)
    result = folder / "result.json"
    assert run(folder / "whole", 0, result, settings), "the undisturbed run failed"
    whole = json.loads(result.read_text())
    different = []
    for first in range(1, whole["changes"] + 1):
        work, second = folder / f"killed{first}", 1 + first % 9
        result.unlink()
        assert not run(work, first, result, settings), f"not killed at {first}"
        run(work, second, result, settings)  # and once more, soon after it has gone on
        if not run(work, 0, result, settings) or json.loads(result.read_text())["digest"] != whole["digest"]:
            different.append([first, second])
        result.touch()
    print(json.dumps({"points": whole["changes"], "different": different}))


if __name__ == "__main__":
    main()
