"""A tiny evaluation, complete from scores to report: forty queries, three systems."""

from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ragsmith.evaluate.metrics import summarise
from ragsmith.evaluate.retrieval import first_right_ranks, score_run
from ragsmith.evaluate.significance import bootstrap_interval, compare
from ragsmith.retrieve.passage_text import passage_inputs

SYSTEMS = {"bm25": 0.45, "base": 0.5, "tuned": 0.75}  # chance that the right passage comes first


@pytest.fixture(scope="session")
def retrieval() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    rows = []
    for system, chance in SYSTEMS.items():
        for number in range(40):
            value = float(rng.random() < chance)
            rows += [(system, f"q{number}", metric, value) for metric in ("ndcg@10", "mrr@10", "recall@10")]
    return pd.DataFrame(rows, columns=["system", "query_id", "metric", "value"])


@pytest.fixture(scope="session")
def answer_scores() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "query_id": [f"q{n}" for n in range(40)],
            "em": [n % 2 for n in range(40)],
            "f1": [0.5 + n / 80 for n in range(40)],
        }
    )


@pytest.fixture(scope="session")
def metrics(retrieval: pd.DataFrame, answer_scores: pd.DataFrame) -> dict[str, Any]:
    run = {"date": "2026-11-20", "retriever": {"base": "all-MiniLM-L6-v2", "epochs": 2}, "corpora": ["docs", "wiki"]}
    return summarise(retrieval, answer_scores, [("base", "tuned"), ("bm25", "tuned")], run, samples=500, seed=0)


@pytest.fixture
def per_query() -> pd.DataFrame:
    rows = []
    for number in range(40):
        rows.append(
            {
                "query_id": f"q{number}",
                "query": f"How do I copy file number {number}?",
                "expected": ["shutil.copy", "copy()"],
                "answer": "shutil.copy" if number % 2 else "os.rename",
                "em": float(number % 2),
                "f1": float(number % 2),
                "passage_title": "shutil",
                "passage_text": "shutil.copy(src, dst)\n\nCopies the file src to the file or directory dst.",
                "rank_base": number % 12 + 1 if number % 3 else None,
                "rank_tuned": number % 4 + 1,
            }
        )
    return pd.DataFrame(rows).astype({"rank_base": "Int64", "rank_tuned": "Int64"})


@dataclass(frozen=True)
class Evaluation:
    """What the report is made of."""

    metrics: dict[str, Any]
    per_query: pd.DataFrame
    passages: pd.DataFrame


FULL_SYSTEMS = {"bm25": 2.0, "base": 3.0, "tuned": 6.0, "hybrid": 4.0, "reranked": 8.0}  # weight of a right passage
NAMES = "copy move remove rename open close read write list walk".split()
WORDS = ("How do I", "What does", "Which function can", "Where does one")
READ, DEPTH = 5, 20


def full_evaluation(count: int = 120, seed: int = 5) -> Evaluation:
    """A whole evaluation: rankings and answers are drawn, and every figure is worked out from them."""
    rng = np.random.default_rng(seed)
    passages = _passages(count)
    qrels, runs = _runs(count, rng)
    per_query = _answered(count, passages, qrels, runs, rng)
    ranks = {name: first_right_ranks(run, qrels).set_index("query_id")["rank"] for name, run in runs.items()}
    scores = {name: score_run(run, qrels, SWEEP) for name, run in runs.items()}
    for name in runs:
        per_query[f"rank_{name}"] = per_query["query_id"].map(ranks[name])
        ndcg = scores[name][scores[name]["metric"] == "ndcg@10"].set_index("query_id")["value"]
        per_query[f"ndcg@10_{name}"] = per_query["query_id"].map(ndcg)
    long = pd.concat([table.assign(system=name) for name, table in scores.items()])
    long = long[long["metric"].isin(["ndcg@10", "mrr@10", "recall@10"])].reset_index(drop=True)
    run = {
        "revision": "0123456789ab",
        "date": "2026-11-20T10:00:00Z",
        "seed": 0,
        "search": "dense",
        "machine": {"processor": "a processor", "cores": 2, "memory_gib": 23.5, "device": "cpu"},
        "models": {"base": {"name": "all-MiniLM-L6-v2", "sha256": "ab" * 32}, "reader": {"name": "extractive"}},
        "data": {"passages": len(passages), "sha256": "cd" * 32},
        "seconds": {"retrieve_runs": 31.5, "read_answers": 60.2},
        "sources": ["docs", "wiki"],
    }
    pairs = [("base", "tuned"), ("bm25", "tuned"), ("tuned", "reranked")]
    metrics = summarise(long, per_query[["query_id", "em", "f1"]], pairs, run, samples=300, seed=0)
    metrics |= {
        "gate": [
            {"name": "best", "ndcg@10": 0.51, "shipped": True, "reason": "highest dev ndcg@10: +0.06 over base"},
            {"name": "base", "ndcg@10": 0.45, "shipped": False, "reason": "-0.06 against best"},
        ],
        "conditions": _condition_means(per_query),
        "condition_comparisons": _condition_comparisons(per_query),
        "decomposition": _decomposition(per_query),
        "slices": _slices(per_query),
        "sweep": _sweep(scores, per_query, rng),
        "calibration": _calibration(per_query),
        "forgetting": {
            "probe": "general questions",
            "queries": 200,
            "passages": 3_000,
            "systems": {
                name: {"ndcg@10": part} for name, part in zip(("base", "tuned"), _two(per_query), strict=True)
            },
            "comparisons": [dict(metrics["comparisons"][0], difference=-0.01, ci95=[-0.03, 0.01], p=0.4, p_holm=0.4)],
        },
        "faithfulness": {
            "model": "an entailment model",
            "queries": count,
            "supported": _estimate(per_query["em"]),
            "citation_precision": _estimate(per_query["f1"]),
            "citation_recall": _estimate(per_query["em"]),
        },
        "judge": {
            "model": "a language model",
            "queries": count,
            "repeats": 3,
            "correct": _estimate(per_query["f1"]),
            "agreement": 0.94,
            "kappa": 0.81,
            "against_em": 0.88,
        },
        "against": _against(per_query),
    }
    return Evaluation(metrics, per_query, passages)


SWEEP_DEPTHS = (1, 3, 5, 10, 20)
SWEEP = tuple(f"{kind}@{k}" for kind in ("ndcg", "mrr", "recall", "precision", "map", "hit") for k in SWEEP_DEPTHS)


def _passages(count: int) -> pd.DataFrame:
    rows = []
    for number in range(2 * count):
        name = f"tools.{NAMES[number % 10]}_{number}"
        lead = f"{name}(src, dst)\n\n" if number % 2 else ""  # the others are read below their title
        text = f"{lead}Copies what it is given, number {number}. Use {name} with care. " + "It has more to say. " * 8
        rows.append((f"p{number}", f"tools > {name}", text))
    return pd.DataFrame(rows, columns=["passage_id", "title", "text"])


def _runs(count: int, rng: np.random.Generator) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Each query has one or two right passages; a system that weighs them more tends to rank them first."""
    qrels, rows = [], {name: [] for name in FULL_SYSTEMS}
    for number in range(count):
        right = [number, number + count][: 1 + number % 2]
        qrels += [(f"q{number}", f"p{place}", 2 - at) for at, place in enumerate(right)]
        wrong = rng.choice(np.setdiff1d(np.arange(2 * count), right), 60, replace=False)
        candidates = np.concatenate([right, wrong])
        for name, weight in FULL_SYSTEMS.items():
            chances = rng.exponential(1.0, len(candidates)) * np.where(np.isin(candidates, right), weight, 1.0)
            order = candidates[np.argsort(-chances)][:DEPTH]
            rows[name] += [(f"q{number}", f"p{p}", 1.0 - rank / 100, rank) for rank, p in enumerate(order, start=1)]
    columns = ["query_id", "passage_id", "score", "rank"]
    return (
        pd.DataFrame(qrels, columns=["query_id", "passage_id", "grade"]),
        {name: pd.DataFrame(found, columns=columns) for name, found in rows.items()},
    )


def _answered(
    count: int, passages: pd.DataFrame, qrels: pd.DataFrame, runs: dict[str, pd.DataFrame], rng: np.random.Generator
) -> pd.DataFrame:
    """The reader takes the right passage two times out of three, and gives no answer now and then."""
    seen = dict(zip(passages["passage_id"], passage_inputs(passages), strict=True))
    names = dict(zip(passages["passage_id"], (title.rpartition(" > ")[2] for title in passages["title"]), strict=True))
    rights = qrels.groupby("query_id")["passage_id"].agg(list)
    read = runs["tuned"][runs["tuned"]["rank"] <= READ].groupby("query_id")["passage_id"].agg(list)
    rows = []
    for number in range(count):
        query_id = f"q{number}"
        right, ids = rights[query_id], read[query_id]
        found = [i for i in ids if i in right]
        chosen = found[0] if found and rng.random() < 0.66 else ids[int(rng.integers(READ))]
        abstains = rng.random() < 0.08
        weights = rng.dirichlet(np.where(np.array(ids) == chosen, 6.0, 0.7))
        answer = "" if abstains else names[chosen]
        start = seen[chosen].index(names[chosen])
        expected = [names[i] for i in right]
        right_now = float(answer in expected)
        where = "retrieved" if found else "missed"
        rows.append(
            {
                "query_id": query_id,
                "query": f"{WORDS[number % 4]} {NAMES[number % 10]} file number {number}?",
                "expected": expected,
                "answer": answer,
                "em": right_now,
                "f1": max(right_now, round(0.5 * rng.random(), 2)),
                "bleu": right_now,
                "rouge1": right_now,
                "rouge2": right_now,
                "rougeL": right_now,
                "score": 0.0 if abstains else float(weights.max()),
                "category": "abstained" if abstains else f"{where}_{'right' if right_now else 'wrong'}",
                "right_ids": right,
                "passage_ids": ids,
                "passage_id": "" if abstains else chosen,
                "start": -1 if abstains else start,
                "end": -1 if abstains else start + len(answer),
                "posteriors": weights.tolist(),
                "em_oracle": float(rng.random() < 0.8),
                "em_base_retrieved": float(right_now and rng.random() < 0.7),
                "slice_question_word": WORDS[number % 4].split()[0].lower(),
                "slice_source": "docs" if number % 3 else "wiki",
            }
        )
    table = pd.DataFrame(rows)
    return table.assign(f1_oracle=table["em_oracle"], f1_base_retrieved=table["em_base_retrieved"])


def _estimate(values: pd.Series) -> dict[str, Any]:
    return {"mean": float(values.mean()), "ci95": list(bootstrap_interval(values, samples=200, seed=0))}


def _two(per_query: pd.DataFrame) -> list[dict[str, Any]]:
    return [_estimate(per_query["ndcg@10_base"]), _estimate(per_query["ndcg@10_base"] * 0.98)]


def _condition_means(per_query: pd.DataFrame) -> dict[str, Any]:
    served = {name: _estimate(per_query[name]) for name in ("em", "f1", "bleu", "rouge1", "rouge2", "rougeL")}
    others = ("oracle", "base_retrieved")
    return {"retrieved": served} | {
        name: {key: _estimate(per_query[f"em_{name}"]) for key in served} for name in others
    }


def _condition_comparisons(per_query: pd.DataFrame) -> list[dict[str, Any]]:
    rows = []
    for other in ("base_retrieved", "oracle"):
        tables = [per_query[["query_id"]].assign(metric="em", value=per_query[name]) for name in (f"em_{other}", "em")]
        rows += [asdict(entry) for entry in compare(*tables, names=(other, "retrieved"), samples=300, seed=0)]
    return rows


def _decomposition(per_query: pd.DataFrame) -> dict[str, Any]:
    keys = ("retrieved_right", "retrieved_wrong", "missed_right", "missed_wrong", "abstained")
    pairs = zip(per_query["right_ids"], per_query["passage_ids"], strict=True)
    ranks = pd.Series(
        [next((str(rank) for rank, i in enumerate(read, start=1) if i in right), "not read") for right, read in pairs]
    )
    by_rank = []
    for rank in [*(str(rank) for rank in range(1, READ + 1)), "not read"]:
        em = per_query["em"][ranks == rank]
        by_rank.append({"rank": rank, "queries": len(em), "em": _estimate(em) if len(em) > 1 else None})
    return {
        "queries": len(per_query),
        "read": READ,
        "counts": {key: int((per_query["category"] == key).sum()) for key in keys},
        "bounds": {
            "now": _estimate(per_query["em"]),
            "perfect_retrieval": _estimate(per_query["em_oracle"]),
            "perfect_reader": _estimate((ranks != "not read").astype(float)),
        },
        "by_rank": by_rank,
    }


def _slices(per_query: pd.DataFrame) -> dict[str, Any]:
    dimensions = []
    for name in ("question_word", "source"):
        slices = [
            {"value": value, "queries": len(t), "em": _estimate(t["em"]), "ndcg@10": _estimate(t["ndcg@10_tuned"])}
            for value, t in per_query.groupby(f"slice_{name}")
        ]
        dimensions.append({"name": name, "slices": slices})
    inside = per_query["slice_question_word"] == "what"
    mean, rest = float(per_query["em"][inside].mean()), float(per_query["em"][~inside].mean())
    worst = {"name": "question_word", "value": "what", "queries": int(inside.sum()), "metric": "em", "mean": mean,
             "rest": rest, "difference": mean - rest, "ci95": [mean - rest - 0.1, mean - rest + 0.1],
             "p": 0.004, "p_holm": 0.024}  # fmt: skip
    return {"min_queries": 10, "dimensions": dimensions, "worst": [worst] if mean < rest else []}


def _sweep(scores: dict[str, pd.DataFrame], per_query: pd.DataFrame, rng: np.random.Generator) -> dict[str, Any]:
    means = {
        name: {metric: float(v) for metric, v in table.groupby("metric")["value"].mean().items()}
        for name, table in scores.items()
    }
    reader = []
    for k in (1, 2, 3, 5, 10):
        kept = rng.random(len(per_query)) < min(0.5 + k / 10, 1.0)
        reader.append({"k": k, "em": _estimate(per_query["em"] * kept), "f1": _estimate(per_query["f1"] * kept)})
    kinds = list(dict.fromkeys(metric.partition("@")[0] for metric in SWEEP))
    return {
        "retrieval": {
            name: {kind: {str(k): by_metric[f"{kind}@{k}"] for k in SWEEP_DEPTHS} for kind in kinds}
            for name, by_metric in means.items()
        },
        "reader": reader,
    }


def _calibration(per_query: pd.DataFrame) -> dict[str, Any]:
    ordered = per_query.sort_values("score", ascending=False, ignore_index=True)
    bins = []
    for places in np.array_split(np.arange(len(ordered)), 8):
        part = ordered.iloc[places]
        bins.append(
            {
                "low": float(part["score"].min()),
                "high": float(part["score"].max()),
                "queries": len(part),
                "confidence": float(part["score"].mean()),
                "accuracy": float(part["em"].mean()),
            }
        )
    risks = 1 - ordered["em"].cumsum() / np.arange(1, len(ordered) + 1)
    curve = [
        {"threshold": float(s), "coverage": (at + 1) / len(ordered), "risk": float(r)}
        for at, (s, r) in enumerate(zip(ordered["score"], risks, strict=True))
    ]
    gaps = (per_query["score"] - per_query["em"]).abs()
    half = {"coverage": 0.5, "accuracy": float(1 - risks[len(ordered) // 2])}
    return {
        "queries": len(per_query),
        "bins": bins,
        "ece": _estimate(gaps),
        "risk_coverage": curve[:: max(len(curve) // 100, 1)][:101],
        "aurc": float(risks.mean()),
        "threshold": {"target_accuracy": 0.8, "value": float(ordered["score"].median()), "dev": half, "test": half},
    }


def _against(per_query: pd.DataFrame) -> dict[str, Any]:
    changed = per_query[per_query["em"] != per_query["em_base_retrieved"]]
    rows = [
        {"query_id": row.query_id, "query": row.query, "answer_a": "", "answer_b": row.answer, "em_a": 0.0,
         "em_b": row.em, "f1_a": 0.0, "f1_b": row.f1}
        for row in changed.itertuples()
    ]  # fmt: skip
    before, now = per_query["em_base_retrieved"].mean(), per_query["em"].mean()
    comparison = {"a": "20261101T000000Z-aaaaaaaa", "b": "this", "system": "", "metric": "em", "mean_a": float(before),
                  "mean_b": float(now), "difference": float(now - before), "ci95": [0.01, 0.3], "p": 0.001,
                  "p_holm": 0.001}  # fmt: skip
    return {
        "a": "20261101T000000Z-aaaaaaaa",
        "b": "this",
        "queries": {"a": 130, "b": 120, "both": 120, "only_a": 10, "only_b": 0, "changed_text": 0},
        "comparisons": [comparison],
        "outcomes": {
            "won": {"queries": len(rows), "rows": rows},
            "lost": {"queries": 0, "rows": []},
            "tied": {"queries": len(per_query) - len(rows), "rows": []},
        },
        "run": [{"key": "models.base.name", "a": "all-MiniLM-L6-v1", "b": "all-MiniLM-L6-v2"}],
    }


@pytest.fixture(scope="session")
def _full() -> Evaluation:
    return full_evaluation()


@pytest.fixture
def full_metrics(_full: Evaluation) -> dict[str, Any]:
    return deepcopy(_full.metrics)


@pytest.fixture
def full_per_query(_full: Evaluation) -> pd.DataFrame:
    return _full.per_query.copy()


@pytest.fixture
def passages(_full: Evaluation) -> pd.DataFrame:
    return _full.passages.copy()
