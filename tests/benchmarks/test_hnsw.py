"""The benchmark of HNSW measures both sides on the same vectors and judges what it measured."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "hnsw.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=100)


def test_both_sides_are_measured_and_recall_is_judged() -> None:
    done = run("--sizes", "2000")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    (row,) = result["figures"]["sizes"]
    assert row["passages"] == 2000 and result["bars"] == [
        {"name": "least recall@10", "value": row["recall"], "at_least": 0.95, "holds": True}
    ]
    assert row["flat"].keys() == row["hnsw"].keys() and row["hnsw"]["disk_mib"] > row["flat"]["disk_mib"]


def test_a_file_with_too_few_vectors_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "few.npy", np.ones((100, 4), dtype=np.float32))
    done = run("--vectors", str(tmp_path / "few.npy"))
    assert done.returncode == 1 and "holds 100 vectors: at least 4000 are needed" in done.stderr
