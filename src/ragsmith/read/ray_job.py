"""The process that has a refresh done by a Ray cluster; arguments: the folder, and the process that began it.

It is the driver: Ray ends the task when it ends, in whatever way. The training itself knows nothing of Ray, so that a
cluster that is lost takes this process with it and nothing else. Without a folder it only looks for the cluster.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

from ragsmith.read.refresh_job import JOB, end_with, work


def main(arguments: list[str]) -> None:
    """See above; ends with status 1 and the reason as its last line when the task fails."""
    import ray
    from ray.exceptions import RayError, RayTaskError

    if arguments:
        end_with(int(arguments[1]))
    warnings.simplefilter("ignore", FutureWarning)  # Ray's tips: the last line is to be a reason
    # Without RAY_ADDRESS, Ray takes the cluster of this machine, or starts one that ends with this process.
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    if not arguments:
        return
    folder = Path(arguments[0]).resolve()
    device = json.loads((folder / "job" / JOB).read_text("utf-8"))["machine"]["device"]
    needs: dict[str, Any] = {"num_cpus": 1, "num_gpus": 1 if device == "cuda" else 0}
    # Not tried again: training waits for it, and can do without. The worker ends with the task, and gives memory back.
    task = ray.remote(max_retries=0, max_calls=1, **needs)(work)
    try:
        ray.get(task.remote(folder))
    except RayTaskError as error:
        sys.exit(f"the task failed: {error.cause}")
    except RayError as error:
        sys.exit(f"Ray lost the task: {' '.join(str(error).split())}")


if __name__ == "__main__":
    main(sys.argv[1:])
