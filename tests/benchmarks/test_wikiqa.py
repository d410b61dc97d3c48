"""The WikiQA benchmark judges what it kept, says when that was measured, and fails when a bar does not hold."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def wikiqa(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("wikiqa_benchmark", BENCHMARKS / "wikiqa.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "wikiqa_benchmark", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", ["wikiqa.py", "--quick"])
    return module


def test_the_last_full_run_holds_its_bars_and_says_when_it_was_and_of_what(wikiqa, capsys) -> None:
    assert wikiqa.main() == 0
    first, last = capsys.readouterr().out.strip().split("\n")
    result = json.loads(last)
    assert first.startswith("not measured now: the full run of 20") and result["figures"]["revision"] in first
    assert [seed["seed"] for seed in result["figures"]["seeds"]] == [0, 1, 2] and result["name"] == "wikiqa"
    assert result["figures"]["test_questions"] == 237 and all(bar["holds"] for bar in result["bars"])


def test_bars_are_judged_from_the_scores_of_each_question(wikiqa, tmp_path: Path, monkeypatch, capsys) -> None:
    kept = json.loads(wikiqa.KEPT.read_text("utf-8"))
    kept["seeds"][1]["map"] = kept["base"]["map"]
    (tmp_path / "kept.json").write_text(json.dumps(kept))
    monkeypatch.setattr(wikiqa, "KEPT", tmp_path / "kept.json")
    assert wikiqa.main() == 1
    bars = json.loads(capsys.readouterr().out.strip().split("\n")[-1])["bars"]
    assert [bar["name"] for bar in bars if not bar["holds"]] == ["least_map_gain_of_seeds", "least_lower_end_of_ci95"]


def test_without_a_full_run_there_is_nothing_to_judge(wikiqa, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(wikiqa, "KEPT", tmp_path / "none.json")
    assert wikiqa.main() == 2 and "Run without --quick" in capsys.readouterr().err
