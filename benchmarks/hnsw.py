"""HNSW beside exact search: time to build and to load, queries per second, recall@10 and memory.

    python benchmarks/hnsw.py [--quick] [--sizes 20000 80000 160000] [--vectors data/06_models/index/vectors.npy]

Vectors are drawn near centres in a space of few dimensions and turned into 384, as those of texts are: neighbours are
nearer than chance, and the passages near a query differ. With --vectors those of a file are taken, every twentieth as
a query. Each side builds and searches in processes of its own. Exact search is the truth for recall.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _bench import report
from _paired import child

DIMENSION, LATENT, CENTRES = 384, 24, 500
QUERIES, ALONE, K = 1000, 200, 10
LARGE = 50_000  # passages from which the graph must be faster
MIB = 2**20
KINDS = ("flat", "hnsw")
VERSIONS = ["numpy", "faiss-cpu"]


def main() -> int:
    """Measure and report; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one small size, some seconds")
    parser.add_argument("--sizes", type=int, nargs="+", default=[20_000, 80_000, 160_000], help="numbers of passages")
    parser.add_argument("--vectors", type=Path, help="a .npy file of unit vectors, in place of drawn ones")
    parser.add_argument("--kind", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--step", choices=["build", "search"], help=argparse.SUPPRESS)
    parser.add_argument("--inputs", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps({"build": build, "search": search}[options.step](options.inputs, options.kind)))
        return 0
    sizes = [5_000] if options.quick else sorted(options.sizes)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        if options.vectors:
            rows.append(compare(given(Path(name), options.vectors)))
        else:
            rows += [compare(drawn(Path(name) / str(size), size)) for size in sizes]
    last = rows[-1]
    bars = [{"name": "least recall@10", "value": min(row["recall"] for row in rows), "at_least": 0.95}]
    if last["passages"] >= LARGE:
        ratio = last["hnsw"]["alone_per_s"] / last["flat"]["alone_per_s"]
        bars.append({"name": "queries/s one at a time over exact search's", "value": round(ratio, 2), "at_least": 2.0})
    return report("hnsw", {"k": K, "settings": settings(), "sizes": rows}, bars, VERSIONS)


def compare(inputs: Path) -> dict[str, Any]:
    """Both kinds on the same vectors."""
    row: dict[str, Any] = {"passages": len(np.load(inputs / "passages.npy", mmap_mode="r"))}
    for kind in KINDS:
        row[kind] = {}
        for step in ("build", "search"):
            row[kind] |= child(Path(__file__), ["--kind", kind, "--step", step, "--inputs", str(inputs)])
    flat, hnsw = (np.load(inputs / f"{kind}.npy") for kind in KINDS)
    # By cosine: of equal passages, which texts given twice have, either may be found.
    row["recall"] = round(float((hnsw >= flat[:, -1:] - 1e-6).mean()), 4)
    print(json.dumps(row), flush=True)
    return row


def settings() -> dict[str, int]:
    """The graph's, as they come."""
    from dataclasses import asdict

    from ragsmith.retrieve.hnsw import HnswSettings

    return asdict(HnswSettings())


def build(inputs: Path, kind: str) -> dict[str, Any]:
    """Build an index and save it."""
    from ragsmith.compute.memory import peak_memory
    from ragsmith.retrieve.hnsw import HnswSettings
    from ragsmith.retrieve.index import DenseIndex

    vectors = np.load(inputs / "passages.npy")
    ids = [f"p{number}" for number in range(len(vectors))]
    folder = inputs / f"{kind}-index"
    folder.mkdir()
    begun = time.perf_counter()
    DenseIndex(ids, vectors, HnswSettings() if kind == "hnsw" else None).save(folder, "none")
    seconds = time.perf_counter() - begun
    size = sum(path.stat().st_size for path in folder.iterdir())
    return {
        "build_s": round(seconds, 2),
        "build_peak_mib": round((peak_memory() or 0) / MIB),
        "disk_mib": round(size / MIB, 1),
    }


def search(inputs: Path, kind: str) -> dict[str, Any]:
    """Load the index and search it, one query at a time and all at once."""
    from ragsmith.compute.memory import peak_memory
    from ragsmith.retrieve.index import DenseIndex

    queries = np.load(inputs / "queries.npy")
    begun = time.perf_counter()
    index = DenseIndex.load(inputs / f"{kind}-index")
    index.prepare()
    loaded = time.perf_counter() - begun
    index.search(queries[:1], K)  # faiss starts its threads
    begun = time.perf_counter()
    for number in range(ALONE):
        index.search(queries[number : number + 1], K)
    alone = time.perf_counter() - begun
    begun = time.perf_counter()
    cosines, _ = index.search(queries, K)
    together = time.perf_counter() - begun
    np.save(inputs / f"{kind}.npy", cosines)
    return {
        "load_s": round(loaded, 2),
        "alone_per_s": round(ALONE / alone, 1),
        "together_per_s": round(len(queries) / together, 1),
        "search_peak_mib": round((peak_memory() or 0) / MIB),
        "own_mib": own_memory(),
    }


def own_memory() -> int | None:
    """MiB that are not pages of mapped files, which the kernel can drop; None where it does not say."""
    try:
        lines = Path("/proc/self/status").read_text("ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("RssAnon:")), None)


def drawn(folder: Path, passages: int) -> Path:
    """Passages and queries of the same mixture; float32 files."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    centres = random.standard_normal((CENTRES, LATENT), dtype=np.float32)
    turned = random.standard_normal((LATENT, DIMENSION), dtype=np.float32)
    for name, rows in (("passages", passages), ("queries", QUERIES)):
        near = centres[random.integers(CENTRES, size=rows)] + 0.6 * random.standard_normal(
            (rows, LATENT), dtype=np.float32
        )
        noise = random.standard_normal((rows, DIMENSION), dtype=np.float32)
        vectors = near @ turned + 0.5 * noise
        np.save(folder / f"{name}.npy", vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    return folder


def given(folder: Path, file: Path) -> Path:
    """A file's vectors: every twentieth is a query, at most `QUERIES` of them, the others are passages."""
    vectors = np.load(file, allow_pickle=False)
    asked = np.arange(0, len(vectors), 20)[:QUERIES]
    if len(asked) < ALONE:
        raise SystemExit(f"{file} holds {len(vectors)} vectors: at least {20 * ALONE} are needed.")
    np.save(folder / "queries.npy", vectors[asked])
    np.save(folder / "passages.npy", np.delete(vectors, asked, axis=0))
    return folder


if __name__ == "__main__":
    raise SystemExit(main())
