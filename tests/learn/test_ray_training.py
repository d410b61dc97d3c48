"""Training on a real Ray cluster of two processors."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest
from ray_cluster import NEEDS_RAY, at_work, cluster

from ragsmith.learn.contrastive import ContrastiveSettings
from ragsmith.learn.launch import train_on_ranks, write_job
from ragsmith.learn.loop import LoopSettings
from ragsmith.learn.stages import RetrieverData
from ragsmith.learn.train_retriever import RetrieverSettings, train_retriever

pytestmark = NEEDS_RAY


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with cluster(processors=2) as (found, _):
        yield found


@pytest.fixture
def on_cluster(address, monkeypatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)


@pytest.fixture
def data(queries, mined, passages, dev) -> RetrieverData:
    return RetrieverData(queries, mined, passages, dev)


def settings(epochs=4) -> RetrieverSettings:
    return RetrieverSettings(3, 1, 0.0, ContrastiveSettings(), LoopSettings(epochs, 5e-3, patience=99))


@pytest.mark.usefixtures("on_cluster")
def test_two_processes_of_a_cluster_train_the_model_that_one_trains(data, tiny_model, machine, losses_of, tmp_path):
    both = train_on_ranks(tiny_model, data, settings(), machine, tmp_path / "both", 2, "ray")
    alone = train_retriever(tiny_model, data, settings(), machine, tmp_path / "alone")
    assert both.report["steps"] == alone.report["steps"] == 8
    np.testing.assert_allclose(losses_of(both)[:3], losses_of(alone)[:3], rtol=1e-3)
    assert (both.model / "model.safetensors").is_file()


@pytest.mark.usefixtures("on_cluster")
def test_training_that_fails_says_why(data, tiny_model, machine, tmp_path, capfd):
    few = RetrieverSettings(7, 1, 0.0, ContrastiveSettings(), LoopSettings(1, 5e-3))  # and there are six examples
    with pytest.raises(RuntimeError, match="Training on 2 processes failed"):
        train_on_ranks(tiny_model, data, few, machine, tmp_path, 2, "ray")
    assert "batch_size" in capfd.readouterr().err


@pytest.mark.usefixtures("on_cluster")
def test_cluster_that_is_too_small_is_said_and_not_waited_for(data, tiny_model, machine, tmp_path, capfd):
    with pytest.raises(RuntimeError, match="Training on 3 processes failed"):
        train_on_ranks(tiny_model, data, settings(), machine, tmp_path, 3, "ray")
    assert "compute.ranks is 3, but the cluster has 2 processors: lower it." in capfd.readouterr().err


@pytest.mark.usefixtures("on_cluster")
def test_training_ends_with_the_process_that_waits_for_it(data, tiny_model, machine, tmp_path):
    job = tmp_path / "job"
    job.mkdir()
    write_job(job, tiny_model, data, settings(epochs=100_000), machine)
    command = [sys.executable, "-m", "ragsmith.learn.ray_launch", job, tmp_path, "2"]
    log = tmp_path / "fit-1" / "log.jsonl"
    with subprocess.Popen(command, env={**os.environ}) as driver:
        begun = time.monotonic()
        while not log.is_file() and time.monotonic() < begun + 300:
            time.sleep(0.1)
        workers = at_work(b"RayTrainWorker")
        driver.kill()
    assert len(workers) == 2
    begun = time.monotonic()
    while at_work(b"RayTrainWorker") and time.monotonic() < begun + 120:
        time.sleep(0.1)
    assert not at_work(b"RayTrainWorker")
