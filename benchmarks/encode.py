"""Passages to vectors: the encoder against sentence-transformers, in speed, memory and what is found with the vectors.

python benchmarks/encode.py [--quick] [--data ../shared/data] [--rounds 3] [--other-python path/to/bin/python]

Each side runs in a process of its own, in turns; the last line is one JSON object. Passages are those of SQuAD dev and
SQuADShifts; without that data, the docstrings of Python's own library (and no nDCG).
"""

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _bench import report

ROOT = Path(__file__).resolve().parent.parent
MODEL = "package:all-MiniLM-L6-v2"
SIDES = ["ours_bf16", "ours_int8", "ours_fp32", "st_fp32", "st_bf16", "st_onnx_int8", "st_openvino"]
# Their packages want other versions of transformers than this project: they may have a Python of their own.
OTHER = {"st_onnx_int8", "st_openvino"}
SLOW = {"st_bf16", "st_onnx_int8", "st_openvino"}  # measured once: no bar hangs on them


def passages(data: Path) -> tuple[list[str], list[str], list[int]]:
    """Passages, questions, and the number of each question's passage; SQuAD dev's passages come first."""
    texts: dict[str, int] = {}
    questions: list[str] = []
    right: list[int] = []
    files = [data / "squad" / "dev-v1.1.json.gz", *sorted((data / "squadshifts").glob("*.json.gz"))]
    for number, file in enumerate(files):
        for article in json.loads(gzip.decompress(file.read_bytes()))["data"]:
            for paragraph in article["paragraphs"]:
                place = texts.setdefault(paragraph["context"], len(texts))
                if number == 0:
                    questions += [entry["question"] for entry in paragraph["qas"]]
                    right += [place] * len(paragraph["qas"])
    return list(texts), questions, right


def docstrings() -> list[str]:
    """Docstrings of modules that every Python has."""
    import importlib
    import warnings

    names = ["argparse", "asyncio", "collections", "datetime", "decimal", "json", "logging", "os", "pathlib", "re"]
    found: dict[str, None] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some names are deprecated, which is said when they are looked at
        for name in [*names, "shutil", "socket", "statistics", "string", "subprocess", "tempfile", "unittest"]:
            for value in vars(importlib.import_module(name)).values():
                for part in (value, *(vars(value).values() if isinstance(value, type) else ())):
                    text = getattr(part, "__doc__", None)
                    if isinstance(text, str) and len(text) > 200:
                        found[text] = None
    return list(found)


def encoder_of(side: str, exported: Path) -> Any:
    """A function from texts to vectors; `exported` is where `export_onnx_int8` left its model."""
    from ragsmith.compute.device import Machine
    from ragsmith.retrieve.encoder import Encoder
    from ragsmith.retrieve.models import resolve_model

    folder = resolve_model(MODEL)
    if side.startswith("ours"):
        machine = Machine("cpu", "fp32" if side == "ours_fp32" else "bf16", int8=side == "ours_int8")
        encoder = Encoder.load(folder, machine)
        return lambda texts: encoder.encode(texts, "passage")
    from sentence_transformers import SentenceTransformer

    settings: dict[str, Any] = {}
    if side == "st_bf16":
        settings = {"model_kwargs": {"dtype": "bfloat16"}}
    if side == "st_onnx_int8":
        folder = exported
        settings = {"backend": "onnx", "model_kwargs": {"file_name": "onnx/model_qint8_avx512_vnni.onnx"}}
    if side == "st_openvino":
        settings = {"backend": "openvino"}
    model = SentenceTransformer(str(folder), device="cpu", **settings)
    return lambda texts: model.encode(texts, normalize_embeddings=True)


def export_onnx_int8(into: Path) -> None:
    """The model as sentence-transformers' documentation has it quantized for its ONNX back end."""
    from sentence_transformers import SentenceTransformer, export_dynamic_quantized_onnx_model

    from ragsmith.retrieve.models import resolve_model

    model = SentenceTransformer(str(resolve_model(MODEL)), device="cpu", backend="onnx")
    model.save_pretrained(str(into))
    export_dynamic_quantized_onnx_model(model, "avx512_vnni", str(into))


def child(side: str, inputs: Path, into: Path) -> None:
    """Encode the texts, and keep the vectors beside time and memory."""
    from ragsmith.compute.memory import peak_memory

    if side == "export_onnx_int8":
        export_onnx_int8(into)
        return
    texts = json.loads(inputs.read_text("utf-8"))
    encode = encoder_of(side, inputs.parent / "onnx_int8")
    encode(texts[:64])
    begun = time.perf_counter()
    vectors = np.asarray(encode(texts), dtype=np.float32)
    seconds = time.perf_counter() - begun
    np.save(into, vectors)
    print(json.dumps({"seconds": seconds, "peak_bytes": (peak_memory() or 0) - vectors.nbytes}))


def run(side: str, texts: list[str], folder: Path, python: Path) -> dict[str, Any]:
    """A side in a process of its own: seconds, memory (without the result) and vectors; or the reason why not."""
    inputs, into = folder / "texts.json", folder / f"{side}.npy"
    inputs.write_text(json.dumps(texts), "utf-8")
    steps = [(side, into)]
    if side == "st_onnx_int8" and not (folder / "onnx_int8").exists():
        steps.insert(0, ("export_onnx_int8", folder / "onnx_int8"))  # its memory is not to count
    paths = [str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    surroundings = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(paths)}
    for step, place in steps:
        command = [str(python), __file__, "--side", step, str(inputs), str(place)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=surroundings)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no message"]
            return {"reason": lines[-1][:300]}
    return {**json.loads(done.stdout.strip().splitlines()[-1]), "vectors": np.load(into)}


def ndcg(queries: np.ndarray, found: np.ndarray, right: np.ndarray) -> float:
    """Mean nDCG@10 where each query has one right passage."""
    gains = []
    for start in range(0, len(queries), 1024):
        scores = queries[start : start + 1024] @ found.T
        own = scores[np.arange(len(scores)), right[start : start + 1024]][:, None]
        rank = (scores > own).sum(1)
        gains.append(np.where(rank < 10, 1 / np.log2(rank + 2), 0))
    return float(np.concatenate(gains).mean())


def main() -> int:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--texts", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sides", nargs="*", default=SIDES)
    parser.add_argument(
        "--other-python",
        type=Path,
        default=Path(sys.executable),
        help="Python with sentence-transformers' ONNX or OpenVINO back end, where that wants another transformers",
    )
    parser.add_argument("--side", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        child(arguments.side[0], Path(arguments.side[1]), Path(arguments.side[2]))
        return 0
    there = (arguments.data / "squad" / "dev-v1.1.json.gz").is_file()
    pool, questions, right = passages(arguments.data) if there else (docstrings(), [], [])
    texts = pool[: 400 if arguments.quick else arguments.texts]
    if there:
        kept = [number for number, place in enumerate(right) if place < len(texts)]
        kept = kept[:500] if arguments.quick else kept
        questions, right = [questions[number] for number in kept], [right[number] for number in kept]
    with tempfile.TemporaryDirectory() as name:
        return measure(arguments, texts, questions, right, Path(name))


def measure(arguments: Any, texts: list[str], questions: list[str], right: list[int], folder: Path) -> int:
    """Run all sides in turns, compare what they give, and report."""
    from ragsmith.retrieve.encoder import Encoder
    from ragsmith.retrieve.models import resolve_model

    def python_of(side: str) -> Path:
        return arguments.other_python if side in OTHER else Path(sys.executable)

    tokens = sum(map(len, Encoder.load(resolve_model(MODEL)).token_ids(texts, "passage")))
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in arguments.sides}
    for round_number in range(arguments.rounds):
        for side in arguments.sides:
            if round_number == 0 or (side not in SLOW and "seconds" in runs[side][0]):
                runs[side].append(run(side, texts, folder, python_of(side)))
                print(round_number, side, {k: v for k, v in runs[side][-1].items() if k != "vectors"}, flush=True)
    exact = runs["st_fp32"][0]["vectors"]
    figures: dict[str, Any] = {"texts": len(texts), "tokens": tokens, "rounds": arguments.rounds}
    found: dict[str, float] = {}
    for side, of_side in runs.items():
        if "reason" in of_side[0]:
            figures[side] = {"texts_per_s": None, "reason": of_side[0]["reason"]}
            continue
        seconds = statistics.median(one["seconds"] for one in of_side)
        cosines = (of_side[0]["vectors"] * exact).sum(1)
        figures[side] = {
            "texts_per_s": len(texts) / seconds,
            "tokens_per_s": tokens / seconds,
            "ratio": statistics.median(
                base["seconds"] / one["seconds"] for base, one in zip(runs["st_fp32"], of_side, strict=False)
            ),
            "peak_mib": max(one["peak_bytes"] for one in of_side) / 2**20,
            "cosine_min": float(cosines.min()),
            "cosine_mean": float(cosines.mean()),
        }
        if questions:
            queries = run(side, questions, folder, python_of(side))["vectors"]
            found[side] = figures[side]["ndcg10"] = ndcg(queries, of_side[0]["vectors"], np.asarray(right))
    small = texts[: len(texts) // 4]
    growth = []
    for times in (1, 4, 16):
        # Texts made different, so that no two are one.
        many = [f"{number} {text}" for number in range(times) for text in small]
        one = run("ours_bf16", many, folder, Path(sys.executable))
        growth.append(
            {
                "texts": len(many),
                "ms_per_text": one["seconds"] / len(many) * 1e3,
                "peak_mib": one["peak_bytes"] / 2**20,
            }
        )
    figures["growth"] = growth
    bars: list[dict[str, Any]] = []
    for side in ("ours_bf16", "ours_int8"):
        if side in runs:
            bars.append({"name": f"{side} against st_fp32", "value": figures[side].get("ratio"), "at_least": 5.0})
            if found:
                lost = found["st_fp32"] - found[side]
                bars.append({"name": f"{side}: nDCG@10 lost to fp32", "value": lost, "at_most": 0.002})
    bars.append(
        {
            "name": "time per text at 16 times the texts, as a multiple",
            "value": growth[2]["ms_per_text"] / growth[0]["ms_per_text"],
            "at_most": 1.25,
        }
    )
    bars.append(
        {
            "name": "memory without the result at 16 times the texts, as a multiple",
            "value": growth[2]["peak_mib"] / growth[0]["peak_mib"],
            "at_most": 1.25,
        }
    )
    return report("encode", figures, bars, ["torch", "transformers", "sentence-transformers"])


if __name__ == "__main__":
    sys.exit(main())
