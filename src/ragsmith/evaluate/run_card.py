"""What a reader of a report must know about the run that made it."""

import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ragsmith.retrieve.models import model_hash
from ragsmith.store import current_provenance, read_metadata

SHORT = 12  # characters of a hash: enough to tell apart what was ever made
DATA = ("documents", "passages", "queries", "qrels", "answers")
PACKAGES = ("ragsmith", "torch", "transformers", "sentence-transformers", "faiss-cpu", "bm25s")


def run_card(
    machine: dict[str, Any], seed: int, models: Mapping[str, Path], parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """Versions, revision, machine, seed and configuration of this process; times and fingerprints of models and data.

    Args:
        machine: device and precision.
        seed: of the intervals and tests.
        models: folders by name.
        parameters: all that was configured, as plain values.
    """
    provenance = current_provenance()
    inputs = {} if provenance is None else provenance.inputs
    return {
        "revision": git_revision(),
        "seed": seed,
        "made_at": {
            **{name: found.created_at for name, folder in models.items() if (found := read_metadata(folder))},
            "figures": datetime.now(UTC).isoformat(timespec="seconds"),
        },
        "models": {name: model_hash(str(folder))[:SHORT] for name, folder in models.items()},
        "data": {name: inputs[name][:SHORT] for name in DATA if name in inputs},
        "parameters": dict(parameters),
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "system": platform.system(),
            **machine,
        },
        "python": platform.python_version(),
        "packages": {name: installed(name) for name in PACKAGES},
    }


def installed(name: str) -> str:
    """The version of a package, or `not installed`."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def git_revision() -> str:
    """The commit of the project, with `+changes` when files differ from it; empty outside of git."""
    folder = Path(__file__).parent
    try:
        commit = git(folder, "rev-parse", "--short=12", "HEAD")
        changed = git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{commit}+changes" if changed else commit


def git(folder: Path, *arguments: str) -> str:
    """The output of a git command in a folder."""
    return subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=True
    ).stdout.strip()


def processor() -> str:
    """The processor's own name."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
