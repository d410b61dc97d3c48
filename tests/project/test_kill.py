"""`kill -9` in the midst of a run, then the same command: the same end, and nothing half-written taken for whole."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
SECONDS = 600


def has_checkpoint_and_went_on(fit: Path) -> bool:
    """Whether training has steps behind its last checkpoint, which the next run must do again."""
    try:
        saved = json.loads((fit / "checkpoint/state.json").read_text("utf-8"))["step"]
        steps = [json.loads(line)["step"] for line in (fit / "log.jsonl").read_text("utf-8").splitlines()[:-1]]
    except (FileNotFoundError, ValueError):
        return False
    return max(steps, default=0) > saved > 0


def retriever_is_training(data: Path) -> bool:
    return has_checkpoint_and_went_on(data / "06_models/.work/retriever/fit-1")


def reader_is_training(data: Path) -> bool:
    return has_checkpoint_and_went_on(data / "06_models/.work/reader/fit")


def bundle_is_half_written(data: Path) -> bool:
    """Whether the bundle is being put together or published, and is not there yet."""
    begun = [data / "06_models/.work/bundle/bundle", *(data / "06_models").glob(".bundle.staging-*")]
    return any(path.exists() for path in begun) and not (data / "06_models/bundle").exists()


def kill_when(run: "subprocess.Popen[str]", happens: Callable[[Path], bool], data: Path) -> None:
    """Kill the process group of a run at the moment at which something is the case."""
    end = time.monotonic() + SECONDS
    while not happens(data):
        assert run.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.001)
    os.killpg(run.pid, signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL


def without_run(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: values for name, values in metrics.items() if name != "run"}


@pytest.mark.parametrize(
    ("moment", "recognised", "resumed"),
    [
        (retriever_is_training, "mine_negatives", "retriever: resumed at step"),
        (reader_is_training, "train_retriever", "rag: resumed at step"),
        (bundle_is_half_written, "score", ""),
    ],
)
def test_killed_run_goes_on_and_ends_as_an_undisturbed_one(finished, project, moment, recognised, resumed):
    expected = finished.artefacts()
    kill_when(project.start(), moment, project.data)
    left = project.artefacts()
    assert 0 < len(left) < len(expected)
    assert {name: expected[name] for name in left} == left  # what counts as whole is whole

    log = project.run()
    assert f"recognised: {recognised} " in log and resumed in log
    assert project.artefacts() == expected
    assert without_run(project.metrics()) == without_run(finished.metrics())
    assert [path for path in project.data.rglob(".*.staging-*") if ".work" not in path.parts] == []


def test_run_without_room_says_so_and_goes_on_when_there_is_some(finished, project):
    # 3,000 KiB for a file: the tables fit, and the first checkpoint does not.
    limited = subprocess.run(
        ["bash", "-c", f"ulimit -f 3000; exec {shlex.quote(sys.executable)} -m kedro run --env test"],
        cwd=project.folder,
        env=project.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )
    assert limited.returncode == 1 and "Traceback" not in limited.stdout, limited.stdout
    assert "Error: There was no room to write" in limited.stdout and str(project.data) in limited.stdout
    left = project.artefacts()
    assert 0 < len(left) < len(finished.artefacts()) and "06_models/retriever" not in left
    assert "recognised: mine_negatives " in project.run()
    assert project.artefacts() == finished.artefacts()


def test_second_run_on_the_same_data_is_refused_while_the_first_goes_on(project):
    first = project.start()
    try:
        end = time.monotonic() + SECONDS
        while "node 1/" not in (project.folder / "killed.log").read_text("utf-8"):
            assert first.poll() is None and time.monotonic() < end
            time.sleep(0.01)
        second = project.kedro("run", "--env", "test")
        assert second.returncode == 1
        assert second.stdout.startswith("Error: ") and f"(process {first.pid})" in second.stdout
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
