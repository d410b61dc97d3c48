"""The evaluation benchmark measures the same work on each side, and says so by comparing every score."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def evaluation(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("evaluation_benchmark", BENCHMARKS / "evaluation.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "evaluation_benchmark", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "SAMPLES", 200)
    return module


def test_both_sides_score_the_same_and_the_report_is_of_all_queries(evaluation, tmp_path: Path) -> None:
    inputs = evaluation.make_inputs(tmp_path, 40)
    assert evaluation.ours(inputs)["seconds"] > 0 and evaluation.plain_pytrec_eval(inputs)["with_dicts_s"] > 0
    assert evaluation.disagreement(inputs, "pytrec_eval") == 0
    scores = np.load(inputs / "ours.npy")
    assert scores.shape == (2, 40, len(evaluation.METRICS)) and 0.1 < scores.mean() < 0.9
    assert json.loads((inputs / "metrics.json").read_text("utf-8"))["queries"]["test"] == 40
    assert 0 < evaluation.written_report(inputs)["mb"] < 15


def test_inputs_are_runs_of_a_hundred_passages_with_graded_judgements(evaluation, tmp_path: Path) -> None:
    runs, qrels = evaluation.load(evaluation.make_inputs(tmp_path, 30))
    assert set(qrels["grade"]) == {0, 1, 2} and len(qrels) == 30 * evaluation.JUDGED
    for run in runs.values():
        assert len(run) == 30 * 100 and not run.duplicated(["query_id", "passage_id"]).any()
        found = pd.merge(run, qrels, on=["query_id", "passage_id"])
        assert 0.5 < len(found) / len(qrels) <= 1
