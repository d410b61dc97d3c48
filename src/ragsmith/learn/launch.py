"""Training on several processes: a job in a folder, and `torchrun` over this module, or Ray Train on a cluster.

The job holds what `train_retriever` is called with, as Parquet and JSON; each process reads it and trains in step with
the others (`compute.ranks`). The first one leaves the result: nothing but files passes between the launcher and what
it launched.
"""

import json
import logging
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from ragsmith.compute.device import Machine
from ragsmith.compute.ranks import die_with_parent, process_group, rank
from ragsmith.learn.contrastive import ContrastiveSettings, DevSet
from ragsmith.learn.loop import LoopSettings
from ragsmith.learn.lora import LoraSettings
from ragsmith.learn.mine_again import FreshNegatives
from ragsmith.learn.stages import RetrieverData, Stage
from ragsmith.learn.train_retriever import RetrieverRun, RetrieverSettings, train_retriever
from ragsmith.store import Provenance, current_provenance, recording

logger = logging.getLogger(__name__)

TABLES = ("queries", "mined", "passages")
JOB, PROVENANCE, MINE_AGAIN = "job.json", "provenance.json", "mine_again"


def train_on_ranks(
    base: Path,
    data: RetrieverData,
    settings: RetrieverSettings,
    machine: Machine,
    work: Path,
    ranks: int,
    where: Literal["local", "ray"] = "local",
) -> RetrieverRun:
    """`train_retriever` by several processes, which share each batch.

    Args:
        base, data, settings, machine, work: as for `train_retriever`.
        ranks: how many; on CUDA at most one per card.
        where: on this machine, or on the Ray cluster of `RAY_ADDRESS`, whose nodes see `base` and `work` under the
            same paths, have ragsmith installed, and compute as `machine` says.
    Raises:
        ValueError: more processes than cards, or a `mine_again` that cannot be handed over.
        RuntimeError: a process failed; its own message stands above.
    """
    import torch

    work = work.resolve()  # processes on other nodes begin in other folders
    if where == "local" and machine.device == "cuda" and ranks > torch.cuda.device_count():
        raise ValueError(f"compute.ranks is {ranks}, but there are {torch.cuda.device_count()} cards. Lower it.")
    job = work / "job"
    job.mkdir(parents=True, exist_ok=True)
    (job / "result.json").unlink(missing_ok=True)
    write_job(job, base, data, settings, machine)
    if where == "ray":
        command = [sys.executable, "-m", "ragsmith.learn.ray_launch", str(job), str(work), str(ranks)]
    else:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        command += ["-m", "ragsmith.learn.launch", str(job), str(work)]
    # Or torch's launcher gives one thread to each, and all other processors wait.
    threads = {"OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // ranks))} if where == "local" else {}
    done = subprocess.run(command, check=False, preexec_fn=die_with_parent, env=threads | os.environ)
    if done.returncode or not (job / "result.json").is_file():
        raise RuntimeError(f"Training on {ranks} processes failed (exit status {done.returncode}): see above.")
    result = json.loads((job / "result.json").read_text("utf-8"))
    result["report"]["scores"] = {int(step): score for step, score in result["report"]["scores"].items()}
    return RetrieverRun(Path(result["model"]), result["report"], Path(result["log"]))


def write_job(job: Path, base: Path, data: RetrieverData, settings: RetrieverSettings, machine: Machine) -> None:
    """Everything that a process needs, as files.

    Raises:
        ValueError: `mine_again` is a function of the caller's.
    """
    if data.mine_again is not None and not isinstance(data.mine_again, FreshNegatives):
        raise ValueError(
            "Several processes can be handed FreshNegatives alone as mine_again: give one, or train alone."
        )
    for name in TABLES:
        getattr(data, name).to_parquet(job / f"{name}.parquet", index=False)
    stages = [
        {**asdict(stage), "query_ids": None if stage.query_ids is None else sorted(stage.query_ids)}
        for stage in data.stages
    ]
    content = {
        "base": str(base.resolve()),
        "dev": dev_json(data.dev),
        "judge": None if data.judge is None else dev_json(data.judge),
        "stages": stages,
        "settings": asdict(settings),
        "machine": asdict(machine),
        "original": None if data.original is None else str(data.original.resolve()),
        "mine_again": data.mine_again is not None,
    }
    # Which code trains: a context variable does not reach other processes.
    provenance = current_provenance()
    (job / PROVENANCE).write_text(json.dumps(None if provenance is None else asdict(provenance)), "utf-8")
    if data.mine_again is not None:
        data.mine_again.write(job / MINE_AGAIN)
    (job / JOB).write_text(json.dumps(content), "utf-8")


def dev_json(dev: DevSet) -> dict[str, Any]:
    """Dev questions as JSON has them."""
    return {**asdict(dev), "relevant": [sorted(right) for right in dev.relevant]}


def dev_of_json(content: dict[str, Any]) -> DevSet:
    """The inverse of `dev_json`."""
    return DevSet(**{**content, "relevant": [set(right) for right in content["relevant"]]})


def read_job(job: Path) -> tuple[Path, RetrieverData, RetrieverSettings, Machine]:
    """The inverse of `write_job`."""
    content: dict[str, Any] = json.loads((job / JOB).read_text("utf-8"))
    tables = {name: pd.read_parquet(job / f"{name}.parquet") for name in TABLES}
    judge = None if content["judge"] is None else dev_of_json(content["judge"])
    stages = tuple(
        Stage(**{**stage, "query_ids": None if stage["query_ids"] is None else frozenset(stage["query_ids"])})
        for stage in content["stages"]
    )
    settings = content["settings"]
    contrastive = {**settings["contrastive"], "matryoshka": tuple(settings["contrastive"]["matryoshka"])}
    targets = settings["lora"]["targets"]
    lora = {**settings["lora"], "targets": targets if isinstance(targets, str) else tuple(targets)}
    typed = RetrieverSettings(
        **{
            **settings,
            "contrastive": ContrastiveSettings(**contrastive),
            "loop": LoopSettings(**settings["loop"]),
            "lora": LoraSettings(**lora),
        }
    )
    original = None if content["original"] is None else Path(content["original"])
    fresh = FreshNegatives.read(job / MINE_AGAIN) if content["mine_again"] else None
    dev = dev_of_json(content["dev"])
    data = RetrieverData(**tables, dev=dev, stages=stages, mine_again=fresh, original=original, judge=judge)
    return Path(content["base"]), data, typed, Machine(**content["machine"])


def read_provenance(job: Path) -> Provenance | None:
    """Of the step that wrote the job; None where none did."""
    content = json.loads((job / PROVENANCE).read_text("utf-8"))
    return None if content is None else Provenance(**content)


def work_on(job: Path, work: Path) -> None:
    """One process of a job, alone or in a group that it has been told of; the first one leaves the result."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    base, data, settings, machine = read_job(job)
    with recording(read_provenance(job)), process_group(machine.device):
        run = train_retriever(base, data, settings, machine, work)
        if rank() == 0:
            result = {"model": str(run.model), "report": run.report, "log": str(run.log)}
            (job / "result.json").write_text(json.dumps(result), "utf-8")


if __name__ == "__main__":
    die_with_parent()
    work_on(Path(sys.argv[1]), Path(sys.argv[2]))
