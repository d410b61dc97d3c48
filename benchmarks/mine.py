"""Mining against `sentence_transformers.util.mine_hard_negatives`: same vectors, ranks, margin and number.

    python benchmarks/mine.py [--quick]

Each side is timed in a process of its own, in turn. Vectors are given: only mining is timed.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _bench import Bar, child, median, paired, report

DIMENSION, CLUSTERS = 384, 2000
RANKS, NEGATIVES, MARGIN = 100, 4, 0.05
VERSIONS = ["ragsmith", "torch", "faiss-cpu", "sentence-transformers", "numpy"]


def main() -> int:
    """Measure and report; see the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smaller size, under a minute")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=["ours", "peer"], help=argparse.SUPPRESS)
    parser.add_argument("--inputs", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps({"ours": ours, "peer": peer}[options.side](options.inputs)))
        return 0
    queries, passages = (8_000, 40_000) if options.quick else (20_000, 100_000)
    with tempfile.TemporaryDirectory() as folder:
        inputs = make_inputs(Path(folder) / "compared", queries, passages)
        results = paired(
            ["ours", "peer"],
            lambda side: child(Path(__file__), ["--side", side, "--inputs", str(inputs)]),
            options.rounds,
        )
        grown = []
        for times in (1, 4, 16):
            inputs = make_inputs(Path(folder) / f"grown-{times}", queries // 5, times * passages // 8)
            runs = [child(Path(__file__), ["--side", "ours", "--inputs", str(inputs)]) for _ in range(options.rounds)]
            grown.append({key: median(runs, key) for key in ("seconds", "peak_mib", "vectors_mib")})
            print(f"{times} times the passages: {json.dumps(grown[-1])}", flush=True)
    ours_s, peer_s = median(results["ours"], "seconds"), median(results["peer"], "seconds")
    ours_mib, peer_mib = median(results["ours"], "peak_mib"), median(results["peer"], "peak_mib")
    same = len(results["ours"][0]["negatives"] & results["peer"][0]["negatives"])
    return report("mine", {}, [Bar("speed", peer_s / ours_s, at_least=3)], VERSIONS)


def make_inputs(folder: Path, queries: int, passages: int) -> Path:
    """Clustered unit vectors of passages, and queries near one of them each; float32 files."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    centres = random.normal(size=(CLUSTERS, DIMENSION)).astype(np.float32)
    vectors = unit(centres[random.integers(CLUSTERS, size=passages)] + 0.9 * normal(random, passages))
    positives = random.permutation(passages)[np.arange(queries) % passages]
    np.save(folder / "passages.npy", vectors)
    np.save(folder / "positives.npy", positives)
    np.save(folder / "queries.npy", unit(vectors[positives] + 0.05 * normal(random, queries)))
    return folder
