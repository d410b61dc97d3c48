"""What all benchmarks share: the machine in words, the bars, and the one JSON object that they end with."""

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any


def report(name: str, figures: dict[str, Any], bars: list[dict[str, Any]], versions: list[str]) -> int:
    """Print the result as one line of JSON, the last of the output.

    Args:
        name: of the benchmark.
        figures: what was measured; names end in their unit.
        bars: each with `name`, `value` and either `at_least` or `at_most`.
        versions: packages whose version is told.
    Returns:
        The exit status: 0 if all bars hold, else 1.
    """
    judged = [{**bar, "holds": holds(bar)} for bar in bars]
    result = {
        "name": name,
        "machine": machine(),
        "versions": {"python": platform.python_version(), **{package: version(package) for package in versions}},
        "figures": figures,
        "bars": judged,
    }
    print(json.dumps(result), flush=True)
    return 0 if all(bar["holds"] for bar in judged) else 1


def holds(bar: dict[str, Any]) -> bool:
    """Whether the value is on the right side of its bar; a value that is missing is not."""
    value = bar["value"]
    if value is None:
        return False
    return bool(value >= bar["at_least"] if "at_least" in bar else value <= bar["at_most"])


def machine() -> dict[str, Any]:
    """Processor, cores, memory and graphics card of this machine."""
    import torch

    from ragsmith.compute.device import probe

    described: dict[str, Any] = {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "cpu_precision": probe("cpu").precision,
    }
    if torch.cuda.is_available():
        described["gpu"] = torch.cuda.get_device_name()
    return described


def processor() -> str:
    """The processor's name as Linux tells it, else as Python does."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
