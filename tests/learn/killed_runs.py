"""Run the toy training once undisturbed, then kill it at each change of the disk, go on, and compare.

Usage: killed_runs.py FOLDER CHECKPOINT_SECONDS; prints JSON:
{"points": …, "different": [[first kill, second kill], …]}.
Each run is a fork of this process, which itself computes nothing.
"""

import hashlib
import json
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
import torch._dynamo  # imported by the first step of an optimizer: once here, or in each fork
import torch.utils.tensorboard
from conftest import ToyTask
from safetensors.torch import save

from ragsmith.compute.device import Machine
from ragsmith.learn.checkpoints import weights
from ragsmith.learn.loop import LoopSettings, fit

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "shutil.rmtree"}


def watch(work: Path, last: int) -> list[str]:
    """Count the changes below `work`, and end this process by SIGKILL at the one numbered `last`."""
    seen: list[str] = []

    def hook(event: str, arguments: tuple) -> None:
        if event == "open":
            path, _, flags = arguments
            changing = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR) and not flags & os.O_APPEND
        else:
            path, changing = (arguments[0] if arguments else ""), event in CHANGES
        # TensorBoard writes from a thread of its own, whose order differs from run to run.
        if changing and str(path).startswith(str(work)) and "tensorboard" not in str(path):
            seen.append(event)
            if len(seen) == last:
                if event == "open" and Path(path).exists():
                    os.truncate(path, 0)  # it dies just after the opening, with nothing written
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return seen


def run(work: Path, last: int, result: Path, settings: LoopSettings) -> bool:
    """Train in a fork; whether it came to its end."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1] == 0
    try:
        torch.set_num_threads(1)
        task = ToyTask()
        seen = watch(work, last)
        fitted = fit(task, settings, Machine("cpu", "fp32"), work, "toy")
        changes = len(seen)
        best = fitted.checkpoints.best()
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
