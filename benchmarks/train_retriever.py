"""How fast a retriever is trained here, beside the field's own trainers on the same batches.

    python benchmarks/train_retriever.py                 three rounds of eight steps a side: twenty minutes
    python benchmarks/train_retriever.py --quick         one round of three steps
    python benchmarks/train_retriever.py --quality       whether the models are as good: an hour; kept in results/
                                         … --peers flagembedding   as good as FlagEmbedding's; kept beside it
    python benchmarks/train_retriever.py --growth        ours on 1, 4 and 16 times the queries: ten minutes
    python benchmarks/train_retriever.py --keep-memory   the others as a tuner would run them: see docs/performance.md
    python benchmarks/train_retriever.py --device cuda   figures, and no bars

Each side trains all-MiniLM-L6-v2 on SQuADShifts' questions about new Wikipedia articles: 32 queries a step, each with
its paragraph and two mined ones, up to 256 tokens. Rows, order, negatives, steps and learning rate are the same, and
that the batches hold the same texts is checked. Ours is `train_retriever` with its defaults; the others are
SentenceTransformerTrainer in float32 (what one gets without asking), the same with bf16, and FlagEmbedding's run.
Each has a process of its own, one after the other, in turns; start-up and the first steps do not count.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import _bench

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "train_retriever.json"
DATA = "squadshifts/new_wiki_v1.0.json.gz"
# The least that we promise: how many times as long a step of the other takes.
BARS = {"sentence_transformers": 8.0, "sentence_transformers_bf16": 5.0, "flagembedding": 8.0}
QUALITY_BAR = 0.005
GROWTH_BAR = 1.25  # the most that a step's time and the memory may grow by, from once to 16 times the queries
GROWTH_STEPS = 12  # at once the queries: 16 times as many take most of those that the data has
QUALITY_STEPS, SEEDS = 40, 3  # of --quality
VERSIONS = ["torch", "transformers", "sentence-transformers", "FlagEmbedding"]
# As `freed_memory_kept` has it for ours, for processes that do not call it.
KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}
# Dense bf16 of the data sheets, in operations a second.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12}


def main() -> int:
    """Run what was asked for and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder with squadshifts/")
    parser.add_argument("--quick", action="store_true", help="one round of three steps")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--quality", action="store_true", help="compare nDCG@10 after 40 steps instead of times")
    instead.add_argument("--growth", action="store_true", help="ours on 1, 4 and 16 times the queries, instead")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--model", default="package:all-MiniLM-L6-v2")
    parser.add_argument("--peers", nargs="*", choices=list(BARS), help="sides to compare with; all, --quality: one")
    parser.add_argument("--keep-memory", action="store_true", help="let the C library keep what the others free")
    parser.add_argument("--rounds", type=int, help="how often each side runs")
    parser.add_argument("--steps", type=int, help="measured steps; in --quality all steps")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="of --quality; fewer are not kept")
    options = parser.parse_args()
    options.peers = options.peers or (["sentence_transformers"] if options.quality else list(BARS))
    data = options.data / DATA
    if not data.is_file():
        print(f"{data} is not there: give the folder of the data with --data.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="ragsmith-benchmark-") as folder:
        measure = compare_quality if options.quality else measure_growth if options.growth else compare_speed
        return measure(options, data, Path(folder))


def compare_speed(options: argparse.Namespace, data: Path, folder: Path) -> int:
    """Seconds per step of all sides in turns, the ratios of each round, and the bars on them."""
    rounds, steps, warmup = (1, 3, 1) if options.quick else (3, 8, 2)
    rounds, steps = options.rounds or rounds, options.steps or steps
    job = a_job(options, data, folder, steps + warmup, passages=400 if options.quick else 0)
    kept = KEPT_MEMORY if options.keep_memory else {}
    prepared = run_side("prepare", job, folder)
    tokens = prepared["tokens"][-steps:]
    sides = ["ours", *options.peers]
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for number in range(rounds):
        # Each round in the other direction: what slows the machine down for a while is not always the same side's.
        for side in sides if number % 2 == 0 else reversed(sides):
            run = run_side(side, job, folder / f"{side}-{number}", {} if side == "ours" else kept)
            run["seconds"] = run["seconds"][-steps:]
            runs[side].append(run)
            say(f"round {number + 1}: {side} {statistics.median(run['seconds']):.3f} s per step")
    figures: dict[str, Any] = {"tokens_per_step": statistics.mean(tokens), "rounds": rounds, "steps": steps}
    figures["peers_keep_memory"] = options.keep_memory
    for side, results in runs.items():
        figures[side] = side_figures(results, tokens)
        if options.device == "cuda":
            figures[side] |= gpu_figures(results, figures[side]["tokens_per_second"], prepared["layer_parameters"])
    ratios = {peer: paired_ratio(runs[peer], runs["ours"]) for peer in options.peers}
    figures["ratios"] = ratios
    bars = [
        {"name": f"{peer}_ratio", "value": ratios[peer], "at_least": BARS[peer]}
        for peer in options.peers
        if options.device == "cpu"
    ]
    if options.device == "cpu":
        bars += kept_quality()
    return _bench.report("train_retriever", figures, bars, versions())


def side_figures(results: list[dict[str, Any]], tokens: list[int]) -> dict[str, Any]:
    """One side over its rounds: medians of the steps' times and speeds, the highest of the memory."""
    seconds = [value for run in results for value in run["seconds"]]
    speeds = [count / value for run in results for count, value in zip(tokens, run["seconds"], strict=True)]
    return {
        "precision": results[0]["precision"],
        "seconds_per_step": statistics.median(seconds),
        "tokens_per_second": statistics.median(speeds),
        "peak_gib": max(run["peak_bytes"] or 0 for run in results) / 2**30,
    }


def gpu_figures(results: list[dict[str, Any]], speed: float, parameters: int) -> dict[str, Any]:
    """Memory on the card, and which share of its bf16 peak the layers' own operations are (6 per weight and token)."""
    import torch

    name = torch.cuda.get_device_name()
    peak = next((value for card, value in PEAKS.items() if card in name), None)
    return {
        "peak_gpu_gib": max(run["peak_gpu_bytes"] for run in results) / 2**30,
        "share_of_bf16_peak": 6 * parameters * speed / peak if peak else None,
    }


def paired_ratio(theirs: list[dict[str, Any]], ours: list[dict[str, Any]]) -> float:
    """How many times as long their steps take: in each round the median over the steps, then that of the rounds."""
    return statistics.median(
        statistics.median(slow / fast for slow, fast in zip(their["seconds"], our["seconds"], strict=True))
        for their, our in zip(theirs, ours, strict=True)
    )


def compare_quality(options: argparse.Namespace, data: Path, folder: Path) -> int:
    """nDCG@10 on held-out questions after training, ours and the others', over several seeds."""
    job = a_job(options, data, folder, options.steps or QUALITY_STEPS, dev_questions=1000)
    run_side("prepare", job, folder)
    scores: dict[str, list[float]] = {side: [] for side in ("ours", *options.peers)}
    for seed in range(options.seeds):
        for side, values in scores.items():
            # Times do not count here: with the memory kept, the other trains the same model in half the time.
            result = run_side(side, {**job, "seed": seed}, folder / f"{side}-{seed}", KEPT_MEMORY)
            values.append(result["ndcg_at_10"])
            say(f"seed {seed}: {side} nDCG@10 {values[-1]:.4f}")
    about = {"date": date.today().isoformat(), "revision": revision(), "steps": job["steps"], "device": options.device}
    compared = {
        peer: {
            **about,
            "ndcg_at_10": {"ours": scores["ours"], peer: scores[peer]},
            "difference": statistics.mean(scores["ours"]) - statistics.mean(scores[peer]),
        }
        for peer in options.peers
    }
    if options.steps is None and options.seeds >= SEEDS and options.model == "package:all-MiniLM-L6-v2":
        before = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else {}
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(before | compared, indent=2) + "\n", "utf-8")
    bars = [quality_bar(peer, one["difference"]) for peer, one in compared.items()]
    return _bench.report("train_retriever_quality", compared, bars, versions())


def measure_growth(options: argparse.Namespace, data: Path, folder: Path) -> int:
    """Ours on 1, 4 and 16 times the queries: time per step, with what lies between steps, and the most memory."""
    growth = []
    for times in (1, 4, 16):
        steps, work = times * (options.steps or GROWTH_STEPS), folder / str(times)
        job = a_job(options, data, work, steps)
        run_side("prepare", job, work)
        run = run_side("ours", job, work / "ours")
        growth.append(
            {
                "steps": steps,
                "seconds_per_step": statistics.mean(run["seconds"]),
                "peak_gib": run["peak_bytes"] / 2**30,
            }
        )
        say(f"{steps} steps: {growth[-1]['seconds_per_step']:.3f} s per step, {growth[-1]['peak_gib']:.2f} GiB")
    bars = [
        {"name": f"{name}_growth", "value": growth[-1][name] / growth[0][name], "at_most": GROWTH_BAR}
        for name in ("seconds_per_step", "peak_gib")
    ]
    return _bench.report("train_retriever_growth", {"growth": growth}, bars, versions())


def kept_quality() -> list[dict[str, Any]]:
    """The bars on the results that --quality left; none before it has been run."""
    if not RESULTS.is_file():
        return []
    kept = json.loads(RESULTS.read_text("utf-8"))
    return [
        {**quality_bar(peer, one["difference"]), "date": one["date"], "revision": one["revision"]}
        for peer, one in kept.items()
    ]


def quality_bar(peer: str, difference: float) -> dict[str, Any]:
    """Ours may be better than the peer's, and not worse than that."""
    return {"name": f"ndcg_at_10_over_{peer}", "value": difference, "at_least": -QUALITY_BAR}


def a_job(
    options: argparse.Namespace, data: Path, folder: Path, steps: int, dev_questions: int = 0, passages: int = 0
) -> dict[str, Any]:
    """What the sides are told, as `Job` of _train_sides.py has it; its `side` and `work` come with each run."""
    return {
        "data": str(data),
        "folder": str(folder),
        "model": options.model,
        "device": options.device,
        "steps": steps,
        "dev_questions": dev_questions,
        "passages": passages,
        "seed": 0,
    }


def run_side(side: str, job: dict[str, Any], work: Path, variables: dict[str, str] | None = None) -> dict[str, Any]:
    """The result of one side, run in a process of its own.

    Raises:
        RuntimeError: it failed; the message has its last lines.
    """
    from ragsmith.learn.backends.flagembedding import offline

    script = Path(__file__).with_name("_train_sides.py")
    work.mkdir(parents=True, exist_ok=True)
    environment = {
        **offline(work),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]),
        **(variables or {}),
    }
    log = work / "output.log"
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            [sys.executable, str(script), json.dumps({**job, "side": side, "work": str(work)})],
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        last = "\n".join(log.read_text("utf-8", errors="replace").splitlines()[-15:])
        raise RuntimeError(f"{side} ended with status {done.returncode}:\n{last}")
    result: dict[str, Any] = json.loads((work / "result.json").read_text("utf-8"))
    return result


def versions() -> list[str]:
    """The packages to name: those that are installed."""
    from importlib.util import find_spec

    return VERSIONS if find_spec("FlagEmbedding") else VERSIONS[:-1]


def revision() -> str:
    """The commit that was measured, with a mark when files differ from it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def say(text: str) -> None:
    """Progress, apart from the result."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
