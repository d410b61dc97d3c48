"""Mining against `sentence_transformers.util.mine_hard_negatives`: same vectors, ranks, margin and number.

    python benchmarks/mine.py [--quick]

Each side is measured in processes of its own, in turn. Vectors are given to both: only mining is timed. Then ours runs
on 1, 4 and 16 times the passages: time is linear, and memory beside the vectors hardly grows.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _bench import report
from _paired import child, median, paired

DIMENSION, CLUSTERS = 384, 2000
RANKS, NEGATIVES, MARGIN = 100, 4, 0.05
MIB = 2**20
VERSIONS = ["numpy", "torch", "faiss-cpu", "sentence-transformers"]


def main() -> int:
    """Measure and report; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller size, under a minute")
    parser.add_argument("--rounds", type=int, default=3, help="paired runs")
    parser.add_argument("--side", choices=["ours", "peer"], help=argparse.SUPPRESS)
    parser.add_argument("--inputs", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps({"ours": ours, "peer": peer}[options.side](options.inputs)))
        return 0
    queries, passages = (8_000, 40_000) if options.quick else (20_000, 100_000)
    with tempfile.TemporaryDirectory() as folder:
        results = compare(Path(folder), queries, passages, options.rounds)
        grown = [grow(Path(folder), queries // 5, times * passages // 8, options.rounds) for times in (1, 4, 16)]
        agreement = agreeing(Path(folder))
    ours_s, peer_s = median(results["ours"], "seconds"), median(results["peer"], "seconds")
    ours_mib, peer_mib = median(results["ours"], "peak_mib"), median(results["peer"], "peak_mib")
    figures = {
        "queries": queries,
        "passages": passages,
        "dimension": DIMENSION,
        "rounds": options.rounds,
        "ours_s": ours_s,
        "peer_s": peer_s,
        "ours_peak_mib": ours_mib,
        "peer_peak_mib": peer_mib,
        "same_negatives_share": agreement,
        "grown_1_4_16": grown,
    }
    bars = [
        {"name": "peer's time over ours", "value": round(peer_s / ours_s, 2), "at_least": 3.0},
        {"name": "our peak memory over the peer's", "value": round(ours_mib / peer_mib, 3), "at_most": 0.5},
        {"name": "queries whose negatives are the peer's, share", "value": agreement, "at_least": 0.999},
        {
            "name": "time for 16 times the passages over that for 4 times",
            "value": round(grown[2]["seconds"] / grown[1]["seconds"], 2),
            "at_most": 4.4,
        },
        {
            "name": "memory beside the vectors, 16 times the passages over 1 time",
            "value": round(grown[2]["other_mib"] / grown[0]["other_mib"], 2),
            "at_most": 1.5,
        },
    ]
    return report("mine", figures, bars, VERSIONS)


def compare(folder: Path, queries: int, passages: int, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Both sides on the same inputs, in turn."""
    inputs = make_inputs(folder / "compared", queries, passages)
    return paired(
        ["ours", "peer"], lambda side: child(Path(__file__), ["--side", side, "--inputs", str(inputs)]), rounds
    )


def grow(folder: Path, queries: int, passages: int, rounds: int) -> dict[str, float]:
    """Ours alone on so many passages."""
    inputs = make_inputs(folder / f"grown-{passages}", queries, passages)
    runs = [child(Path(__file__), ["--side", "ours", "--inputs", str(inputs)]) for _ in range(rounds)]
    found = {"passages": passages} | {key: median(runs, key) for key in ("seconds", "peak_mib", "other_mib")}
    print(json.dumps(found), flush=True)
    return found


def agreeing(folder: Path) -> float:
    """The share of queries for which both sides, in their last runs, have the same negatives; ties may differ."""
    found = [np.load(folder / "compared" / f"{side}.npy") for side in ("ours", "peer")]
    return float((np.sort(found[0], axis=1) == np.sort(found[1], axis=1)).all(axis=1).mean())


def make_inputs(folder: Path, queries: int, passages: int) -> Path:
    """Clustered unit vectors of passages, and queries near one of them each; float32 files."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    centres = random.standard_normal((CLUSTERS, DIMENSION), dtype=np.float32)
    noise = random.standard_normal((passages, DIMENSION), dtype=np.float32)
    vectors = unit(centres[random.integers(CLUSTERS, size=passages)] + 0.9 * noise)
    positives = random.permutation(passages)[np.arange(queries) % passages]
    noise = random.standard_normal((queries, DIMENSION), dtype=np.float32)
    np.save(folder / "passages.npy", vectors)
    np.save(folder / "positives.npy", positives)
    np.save(folder / "queries.npy", unit(vectors[positives] + 0.03 * noise))
    return folder


def unit(vectors: np.ndarray) -> np.ndarray:
    """The vectors at length 1."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def load(inputs: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors of the passages and of the queries, and the positive's number of each query."""
    passages, queries, positives = (np.load(inputs / f"{name}.npy") for name in ("passages", "queries", "positives"))
    return passages, queries, positives


def measured(inputs: Path, side: str, seconds: float, held: int, negatives: np.ndarray) -> dict[str, Any]:
    """What a child tells; the negatives' numbers, shape (queries, NEGATIVES), go into a file."""
    from ragsmith.compute.memory import peak_memory

    peak = (peak_memory() or 0) / MIB
    np.save(inputs / f"{side}.npy", negatives)
    return {"seconds": round(seconds, 3), "peak_mib": round(peak, 1), "other_mib": round(peak - held / MIB, 1)}


def ours(inputs: Path) -> dict[str, Any]:
    """One run of ours."""
    import pandas as pd

    from ragsmith.compute.device import probe
    from ragsmith.retrieve.index import DenseIndex
    from ragsmith.retrieve.margins import Margins
    from ragsmith.retrieve.mine import mine_hard_negatives
    from ragsmith.retrieve.mining_data import MiningData, MiningSettings

    passages, queries, positives = load(inputs)
    ids = [f"p{number}" for number in range(len(passages))]
    data = MiningData(
        pd.DataFrame({"query_id": [f"q{number}" for number in range(len(queries))]}).assign(
            text=lambda table: "query " + table["query_id"]
        ),
        queries,
        {f"q{number}": [ids[positive]] for number, positive in enumerate(positives)},
        DenseIndex(ids, passages),
        pd.DataFrame({"passage_id": ids, "document_id": ids, "title": ids, "text": [f"text {name}" for name in ids]}),
    )
    settings = MiningSettings(
        top_k=RANKS,
        num_negatives=NEGATIVES,
        margins=Margins(MARGIN, ()),
        exclude_same_document=False,
        near_duplicate=None,  # the peer drops equal texts only
    )
    machine = probe("cpu")
    begun = time.perf_counter()
    mined = mine_hard_negatives(data, settings, machine).table
    seconds = time.perf_counter() - begun
    found = np.asarray([[int(name[1:]) for name in names] for names in mined["negative_ids"]])
    return measured(inputs, "ours", seconds, passages.nbytes + queries.nbytes, found)


def peer(inputs: Path) -> dict[str, Any]:
    """One run of the peer, with its own defaults where ours has no say."""
    import torch
    from datasets import Dataset
    from sentence_transformers.util import mine_hard_negatives

    passages, queries, positives = load(inputs)

    class Given:
        """In the place of a model: the vectors are there."""

        device = "cpu"

        def encode_document(self, texts: list[str], **_: Any) -> np.ndarray:
            return passages

        def encode_query(self, texts: list[str], **_: Any) -> np.ndarray:
            return queries

        def get_embedding_dimension(self) -> int:
            return passages.shape[1]

        def similarity_pairwise(self, one: np.ndarray, other: np.ndarray) -> torch.Tensor:
            return (torch.as_tensor(one) * torch.as_tensor(other)).sum(dim=1)

    texts = [f"text p{number}" for number in range(len(passages))]
    anchors = [f"query q{number}" for number in range(len(queries))]
    data = Dataset.from_dict({"anchor": anchors, "positive": [texts[positive] for positive in positives]})
    begun = time.perf_counter()
    mined = mine_hard_negatives(
        data,
        Given(),
        corpus=texts,
        range_max=RANKS - 1,  # it counts without the positive
        num_negatives=NEGATIVES,
        relative_margin=MARGIN,
        use_faiss=True,
        output_scores=True,
        verbose=False,
    )
    seconds = time.perf_counter() - begun
    number_of = {text: number for number, text in enumerate(anchors)}
    found = np.full((len(queries), NEGATIVES), -1)
    filled = np.zeros(len(queries), dtype=int)
    for anchor, negative in zip(mined["anchor"], mined["negative"], strict=True):
        row = number_of[anchor]
        found[row, filled[row]] = int(negative.removeprefix("text p"))
        filled[row] += 1
    return measured(inputs, "peer", seconds, passages.nbytes + queries.nbytes, found)


if __name__ == "__main__":
    raise SystemExit(main())
