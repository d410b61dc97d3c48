"""A tiny evaluation, complete from scores to report: forty queries, three systems."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from ragsmith.evaluate.metrics import summarise

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


@pytest.fixture
def gate() -> list[dict[str, Any]]:
    return [
        {"name": "base", "ndcg@10": 0.5, "shipped": False, "reason": "baseline"},
        {"name": "tuned", "ndcg@10": 0.75, "shipped": True, "reason": "better than base, p < 0.05"},
        {"name": "tuned-int8", "ndcg@10": None, "shipped": False, "reason": "not measured"},
    ]
