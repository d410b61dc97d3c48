"""Sides that are measured in turn, each in a process of its own, so that its memory is its own."""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def child(script: Path, arguments: Sequence[str]) -> dict[str, Any]:
    """Run a script of ours in a process of its own; the last line that it prints, read as JSON."""
    done = subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{script.name} {' '.join(arguments)} failed:\n{done.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def paired(sides: Sequence[str], run: Callable[[str], dict[str, Any]], rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Run the sides in turn, `rounds` times, the order turned round each time: both see the same weather."""
    results: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for number in range(rounds):
        for side in sides if number % 2 == 0 else tuple(reversed(sides)):
            results[side].append(run(side))
            print(f"round {number + 1}, {side}: {json.dumps(results[side][-1])}", flush=True)
    return results


def median(results: Sequence[dict[str, Any]], key: str) -> float:
    """The median of one figure over several runs."""
    return float(statistics.median(result[key] for result in results))
