"""Refreshes by a real Ray cluster of one processor, which is a process of its own."""

import os
import signal
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from ray_cluster import NEEDS_RAY, at_work, cluster

from ragsmith.read.live_index import LiveIndex
from ragsmith.read.workers import check_worker

pytestmark = NEEDS_RAY

QUESTIONS = ["What colour is the car in Ulm?", "And the one in Kiel?"]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with cluster() as (found, _):
        yield found


@pytest.fixture
def refresh(live_index: Callable[..., LiveIndex], monkeypatch: pytest.MonkeyPatch) -> Callable[..., LiveIndex]:
    """A live index whose weights have moved, and whose refresh is under way on the cluster at an address."""

    def begin(at: str, timeout: float = 300.0) -> LiveIndex:
        monkeypatch.setenv("RAY_ADDRESS", at)
        live = live_index(every=2, overlap=0.0, budget=1.0, background="ray", lag=3, timeout=timeout)
        live.note_training(99 * live.cost())
        with torch.no_grad():
            for parameter in live.encoder.model.parameters():
                parameter.mul_(1.1)
        live.before_step(2, QUESTIONS)
        return live

    return begin


def tasks() -> list[int]:
    """The processes in which Ray is at work on a refresh."""
    return at_work(b"work")


def within(seconds: float, happens: Callable[[], object]) -> bool:
    """Whether it happens in that time."""
    end = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def test_refresh_by_ray_is_that_of_its_weights_and_a_run_that_goes_on_finds_it(address, refresh, live_index):
    live = refresh(address)
    expected = live.encoder.encode(live.texts, "passage")
    state = live.state()
    with torch.no_grad():  # training goes on
        next(live.encoder.model.parameters()).zero_()
    live.before_step(5, QUESTIONS)
    assert (live.version, live.at_step, live.failed) == (1, 2, 0)
    np.testing.assert_allclose(live.vectors, expected, atol=1e-5)  # Ray gives a task one thread
    again = live_index(background="ray", lag=3)
    again.restore(state)
    assert again.coming.worker is None
    again.before_step(5, QUESTIONS)
    assert np.array_equal(again.vectors, live.vectors)


def test_task_that_fails_leaves_the_old_version_and_says_why(address, refresh, caplog):
    live = refresh(address)
    weights = live.coming.folder / "job/model/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    live.before_step(5, QUESTIONS)
    assert (live.version, live.failed) == (0, 1)
    assert "the task failed" in caplog.text and "missing or altered" in caplog.text


def test_task_that_hangs_is_ended_after_its_time(address, refresh, caplog):
    live = refresh(address, timeout=1.0)
    assert within(300, tasks)
    (task,) = tasks()
    os.kill(task, signal.SIGSTOP)
    live.before_step(5, QUESTIONS)
    assert (live.version, live.failed) == (0, 1) and "waited 1 s for it (refresh.timeout)" in caplog.text
    assert within(120, lambda: task not in tasks())


def test_task_ends_with_the_process_that_waits_for_it_however_that_ends(address, refresh):
    live = refresh(address)
    assert within(300, tasks)
    (task,) = tasks()
    live.coming.worker.process.kill()
    assert within(120, lambda: task not in tasks())
    live.before_step(5, QUESTIONS)
    assert (live.version, live.failed) == (0, 1)


def test_cluster_that_is_lost_costs_the_refresh_alone(refresh, caplog):
    with cluster() as (address, process):
        live = refresh(address)
        assert within(300, tasks)
        process.kill()
        live.before_step(5, QUESTIONS)
    assert (live.version, live.failed) == (0, 1) and "Training goes on with version 0" in caplog.text


def test_cluster_that_is_there_is_found(address, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", address)
    check_worker("ray")


def test_cluster_that_is_not_there_is_said_before_anything_is_done(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setattr("ragsmith.compute.ray_cluster.FOUND_WITHIN", 10.0)
    with pytest.raises(ConnectionError, match=r"no cluster at 127.0.0.1:1 \(RAY_ADDRESS\)"):
        check_worker("ray")
