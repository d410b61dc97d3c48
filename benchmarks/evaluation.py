"""Two systems scored, given intervals and compared, beside plain pytrec_eval and ranx on the scores alone.

    python benchmarks/evaluation.py [--quick]

10,000 queries, 100 passages each, six metrics at seven depths; 10,000 resamples and 10,000 permutations of ours. Each
side is measured in processes of its own, in turn, from the same tables, which are read before the clock starts. The
peers have no intervals and no tests here: the ratio is of the scores alone. ranx is passed over where it is missing,
and with --quick. Then the report of as many queries is written, and its size told.
"""

import argparse
import importlib.util
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _bench import report
from _paired import child, median, paired

SYSTEMS = ("base", "tuned")
READ = 5  # passages shown with each question of the report
DEPTH, JUDGED, SAMPLES = 100, 3, 10_000
KS = (1, 3, 5, 10, 20, 50, 100)
# Our name of a metric, pytrec_eval's and ranx's.
KINDS = {
    "ndcg": ("ndcg_cut_{}", "ndcg@{}"),
    "mrr": ("recip_rank", "mrr@{}"),
    "recall": ("recall_{}", "recall@{}"),
    "precision": ("P_{}", "precision@{}"),
    "map": ("map_cut_{}", "map@{}"),
    "hit": ("success_{}", "hit_rate@{}"),
}
METRICS = [f"{kind}@{k}" for kind in KINDS for k in KS]
MIB = 2**20
VERSIONS = ["numpy", "pandas", "scipy", "pytrec-eval-terrier"]


def main() -> int:
    """Measure and report; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the queries, once, under a minute")
    parser.add_argument("--rounds", type=int, default=3, help="paired runs")
    parser.add_argument("--side", choices=list(SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--inputs", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(SIDES[options.side](options.inputs)))
        return 0
    queries, rounds = (1_000, 1) if options.quick else (10_000, options.rounds)
    sides = ["ours", "pytrec_eval"]
    if options.quick:
        without_ranx = "not measured with --quick: it compiles for a minute on its first use"
    else:
        without_ranx = "" if importlib.util.find_spec("ranx") else "not installed, so not measured: pip install ranx"
    if without_ranx:
        print(f"ranx: {without_ranx}", flush=True)
    else:
        sides.append("ranx")
    with tempfile.TemporaryDirectory() as folder:
        inputs = make_inputs(Path(folder), queries)
        results = paired(sides, lambda side: child(Path(__file__), ["--side", side, "--inputs", str(inputs)]), rounds)
        apart = {side: disagreement(inputs, side) for side in sides[1:]}
        page = child(Path(__file__), ["--side", "report", "--inputs", str(inputs)])
    figures: dict[str, Any] = {
        "queries": queries,
        "passages_per_query": DEPTH,
        "systems": len(SYSTEMS),
        "metrics": len(METRICS),
        "samples": SAMPLES,
        "rounds": rounds,
    }
    for side in sides:
        keys = results[side][0].keys()
        figures |= {f"{side}_{key}": round(median(results[side], key), 3) for key in keys}
    for side in sides[1:]:
        for key in ("metrics_s", "with_dicts_s"):
            figures[f"ours_over_{side}_{key}"] = round(figures["ours_metrics_s"] / figures[f"{side}_{key}"], 2)
    figures["ranx"] = without_ranx or "measured"
    figures |= {f"report_{key}": value for key, value in page.items()}
    bars = [
        {"name": "scores, intervals and tests of two systems, s", "value": figures["ours_seconds"], "at_most": 60.0},
        {"name": "report of as many queries, MB", "value": figures["report_mb"], "at_most": 15.0},
        *(
            {"name": f"largest difference of a score from {side}'s", "value": value, "at_most": 1e-6}
            for side, value in apart.items()
        ),
    ]
    return report("evaluation", figures, bars, [*VERSIONS, *(["ranx"] if "ranx" in sides else [])])


def make_inputs(folder: Path, queries: int) -> Path:
    """Two runs and graded qrels; passage ids as long as real ones, some right passages never found."""
    rng = np.random.default_rng(0)
    query_ids = np.array([f"query-{number:06}" for number in range(queries)])
    judged = np.array([f"{number:016x}" for number in rng.integers(0, 2**62, queries * JUDGED)]).reshape(queries, -1)
    grades = np.column_stack([np.full(queries, 2), rng.integers(0, 3, (queries, JUDGED - 1))])
    pd.DataFrame(
        {"query_id": query_ids.repeat(JUDGED), "passage_id": judged.ravel(), "grade": grades.ravel()}
    ).to_parquet(folder / "qrels.parquet")
    for system, chance in zip(SYSTEMS, (0.10, 0.12), strict=True):
        wrong = np.array([f"{number:016x}" for number in rng.integers(2**62, 2**63, queries * DEPTH)])
        found = wrong.reshape(queries, DEPTH)
        ranks = rng.geometric(chance, (queries, JUDGED)) - 1
        for place in range(JUDGED):  # a later one at the same rank takes the place of an earlier one
            rows = np.flatnonzero(ranks[:, place] < DEPTH)
            found[rows, ranks[rows, place]] = judged[rows, place]
        pd.DataFrame(
            {
                "query_id": query_ids.repeat(DEPTH),
                "passage_id": found.ravel(),
                "score": np.tile(1 - np.arange(DEPTH) / DEPTH, queries),
                "rank": np.tile(np.arange(1, DEPTH + 1), queries),
            }
        ).to_parquet(folder / f"{system}.parquet")
    return folder


def ours(inputs: Path) -> dict[str, float]:
    """Scores of both systems, then the summary with its intervals and tests."""
    import pytrec_eval  # noqa: F401 - libraries are there before the clock starts, as they are for the peers
    import scipy.stats  # noqa: F401

    from ragsmith.evaluate.metrics import summarise
    from ragsmith.evaluate.retrieval import lengthen, score_matrix

    runs, qrels = load(inputs)
    begun = time.perf_counter()
    scores = {system: score_matrix(run, qrels, METRICS) for system, run in runs.items()}
    scored = time.perf_counter()
    table = pd.concat([lengthen(matrix).assign(system=system) for system, matrix in scores.items()])
    summary = summarise(table, None, [SYSTEMS], {}, samples=SAMPLES, seed=0)
    ended = time.perf_counter()
    (inputs / "metrics.json").write_text(json.dumps(summary), "utf-8")
    keep(inputs, "ours", [matrix.to_numpy() for matrix in scores.values()])
    return {
        "seconds": ended - begun,
        "metrics_s": scored - begun,
        "statistics_s": ended - scored,
        "peak_mib": peak_mib(),
    }


def plain_pytrec_eval(inputs: Path) -> dict[str, float]:
    """pytrec_eval from its own dictionaries; the time to make them is told apart."""
    import pytrec_eval

    runs, qrels = load(inputs)
    begun = time.perf_counter()
    grades = nested(qrels, "grade")
    rankings = [nested(run, "score") for run in runs.values()]
    made = time.perf_counter()
    evaluator = pytrec_eval.RelevanceEvaluator(grades, {name.format(k) for name, _ in KINDS.values() for k in KS})
    found = [evaluator.evaluate(ranking) for ranking in rankings]
    ended = time.perf_counter()
    columns = [name.format(k) for name, _ in KINDS.values() for k in KS]
    values = [np.array([[row[column] for column in columns] for row in by_query.values()]) for by_query in found]
    for matrix in values:
        for position, metric in enumerate(METRICS):
            kind, _, k = metric.partition("@")
            if kind == "mrr":  # it knows no depth
                matrix[matrix[:, position] < 1 / (int(k) + 0.5), position] = 0
    keep(inputs, "pytrec_eval", values)
    return {"metrics_s": ended - made, "with_dicts_s": ended - begun, "peak_mib": peak_mib()}


def ranx(inputs: Path) -> dict[str, float]:
    """One use of ranx to compile, which is told apart, and one to measure."""
    begun = time.perf_counter()
    from ranx import Qrels, Run, evaluate

    imported = time.perf_counter()
    runs, qrels = load(inputs)
    names = [name.format(k) for _, name in KINDS.values() for k in KS]
    head = qrels.head(JUDGED)
    first = next(iter(runs.values())).head(DEPTH)
    evaluate(Qrels(nested(head, "grade")), Run(nested(first, "score")), names, return_mean=False)
    compiled = time.perf_counter()
    grades = Qrels(nested(qrels, "grade"))
    rankings = [Run(nested(run, "score")) for run in runs.values()]
    made = time.perf_counter()
    found = [evaluate(grades, ranking, names, return_mean=False) for ranking in rankings]
    ended = time.perf_counter()
    keep(inputs, "ranx", [np.column_stack([by_metric[name] for name in names]) for by_metric in found])
    return {
        "metrics_s": ended - made,
        "with_dicts_s": ended - compiled,
        "import_s": imported - begun,
        "first_use_s": compiled - imported,
        "peak_mib": peak_mib(),
    }


def written_report(inputs: Path) -> dict[str, float]:
    """Size and time of the report of as many queries, on the figures that ours left."""
    from ragsmith.evaluate.report import render_report

    metrics = json.loads((inputs / "metrics.json").read_text("utf-8"))
    per_query, passages = make_per_query(metrics["queries"]["test"])
    begun = time.perf_counter()
    page = render_report(metrics, per_query, passages, "Benchmark")
    return {"s": round(time.perf_counter() - begun, 2), "mb": round(len(page.encode()) / 1e6, 2)}


def make_per_query(queries: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What the report shows of each question, each with passages of its own, as long as those of the sample corpus."""
    rng = np.random.default_rng(1)
    words = np.array("return the object of path if file name is not found raise value error from list".split())
    texts = [" ".join(rng.choice(words, count)) for count in rng.integers(40, 120, READ * queries)]
    ids = [f"passage-{number:07}" for number in range(len(texts))]
    passages = pd.DataFrame({"passage_id": ids, "title": "shutil > Directory and files operations", "text": texts})
    first = texts[::READ]
    em = rng.integers(0, 2, queries).astype(float)
    table = pd.DataFrame(
        {
            "query_id": [f"query-{number:06}" for number in range(queries)],
            "query": [f"How does {text[:40]} work?" for text in first],
            "expected": [[text[:12], text[13:30]] for text in first],
            "answer": [text[:12] for text in first],
            "em": em,
            "f1": em,
            "passage_id": ids[::READ],
            "passage_ids": [ids[begin : begin + READ] for begin in range(0, len(ids), READ)],
            "right_ids": [[passage_id] for passage_id in ids[::READ]],
        }
    )
    for system in SYSTEMS:
        table[f"rank_{system}"] = pd.array(rng.integers(1, 30, queries), dtype="Int64")
    return table, passages


def load(inputs: Path) -> tuple[dict[str, pd.DataFrame], pd.DataFrame]:
    """The runs by system, and the qrels."""
    runs = {system: pd.read_parquet(inputs / f"{system}.parquet") for system in SYSTEMS}
    return runs, pd.read_parquet(inputs / "qrels.parquet")


def nested(table: pd.DataFrame, column: str) -> dict[str, dict[str, Any]]:
    """{query_id: {passage_id: value}}, the input of both peers."""
    found: dict[str, dict[str, Any]] = {}
    rows = zip(table["query_id"].tolist(), table["passage_id"].tolist(), table[column].tolist(), strict=True)
    for query_id, passage_id, value in rows:
        found.setdefault(query_id, {})[passage_id] = value
    return found


def keep(inputs: Path, side: str, values: list[np.ndarray]) -> None:
    """Keep a side's scores, shape (systems, queries, metrics), to compare them."""
    np.save(inputs / f"{side}.npy", np.stack(values))


def disagreement(inputs: Path, side: str) -> float:
    """The largest difference between one of our scores and the side's, in their last runs."""
    return float(np.abs(np.load(inputs / "ours.npy") - np.load(inputs / f"{side}.npy")).max())


def peak_mib() -> float:
    """The most memory that this process has held, in MiB."""
    from ragsmith.compute.memory import peak_memory

    return (peak_memory() or 0) / MIB


SIDES = {"ours": ours, "pytrec_eval": plain_pytrec_eval, "ranx": ranx, "report": written_report}


if __name__ == "__main__":
    raise SystemExit(main())
