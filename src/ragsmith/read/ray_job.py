"""The process that has a refresh done by a Ray cluster; arguments: the folder, and the process that began it.

It is the driver: Ray ends the task when it ends, in whatever way. The training itself knows nothing of Ray, so that a
cluster that is lost takes this process with it and nothing else.
"""

import json
import sys
from pathlib import Path
from typing import Any

from ragsmith.compute.ray_cluster import connect
from ragsmith.read.refresh_job import JOB, end_with, work


def main(arguments: list[str]) -> None:
    """See above; ends with status 1 and the reason as its last line when the task fails."""
    import ray
    from ray.exceptions import RayError, RayTaskError

    end_with(int(arguments[1]))
    connect()
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
