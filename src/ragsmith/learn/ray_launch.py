"""The process that has a retriever trained by a Ray cluster; arguments: the job, the folder to work in, how many.

It is the driver: Ray ends the training when it ends, in whatever way. Ray Train starts the processes, one card each,
lets them join a group, and ends all of them when one fails.
"""

import json
import shutil
import sys
from pathlib import Path

from ragsmith.compute.ranks import WAITING, die_with_parent
from ragsmith.compute.ray_cluster import connect
from ragsmith.learn.launch import JOB, work_on


def take_part(config: dict[str, str]) -> None:
    """One process of the job; the first of them leaves the result."""
    work_on(Path(config["job"]), Path(config["work"]))


def main(arguments: list[str]) -> None:
    """See above; ends with status 1 and the reason as its last line when the training fails."""
    import ray
    from ray.train import RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    die_with_parent()
    job, work, ranks = Path(arguments[0]), Path(arguments[1]), int(arguments[2])
    connect(logs=True)
    cards = json.loads((job / JOB).read_text("utf-8"))["machine"]["device"] == "cuda"
    kind, name = ("GPU", "cards") if cards else ("CPU", "processors")
    there = int(ray.cluster_resources().get(kind, 0))
    if there < ranks:  # Ray would wait for more
        sys.exit(f"compute.ranks is {ranks}, but the cluster has {there} {name}: lower it.")
    notes = work / "ray"
    shutil.rmtree(notes, ignore_errors=True)  # Ray's own, of a run before: checkpoints are the training's affair
    trainer = TorchTrainer(
        take_part,
        train_loop_config={"job": str(job), "work": str(work)},
        torch_config=TorchConfig("nccl" if cards else "gloo", timeout_s=int(WAITING.total_seconds())),
        scaling_config=ScalingConfig(num_workers=ranks, use_gpu=cards),
        run_config=RunConfig(storage_path=str(notes)),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        sys.exit(f"the training failed: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
