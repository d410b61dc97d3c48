import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "train_retriever.py"
PARAGRAPHS = 260  # four questions each: 1,024 are what --growth asks for at two steps


@pytest.fixture
def data(tmp_path) -> Path:
    """Made-up paragraphs, each with questions, as SQuAD has them."""
    paragraphs = [
        {
            "context": f"Town {number} lies on river {number % 7}. " + "It has a market. " * (number % 5),
            "qas": [{"question": f"{ask} is town {number}?"} for ask in ("Where", "What", "How old", "How large")],
        }
        for number in range(PARAGRAPHS)
    ]
    folder = tmp_path / "squadshifts"
    folder.mkdir()
    with gzip.open(folder / "new_wiki_v1.0.json.gz", "wt", encoding="utf-8") as file:
        json.dump({"data": [{"title": "Towns", "paragraphs": paragraphs}]}, file)
    return tmp_path


@pytest.mark.slow
def test_the_last_line_has_the_figures_of_both_sides_and_the_exit_status_is_that_of_the_bars(data):
    command = [sys.executable, str(SCRIPT), "--quick", "--steps", "1", "--data", str(data)]
    command += ["--model", "random:bert-1x32", "--peers", "sentence_transformers"]
    done = subprocess.run(command, capture_output=True, text=True)
    result = json.loads(done.stdout.splitlines()[-1])
    ours, theirs = (result["figures"][side] for side in ("ours", "sentence_transformers"))
    assert result["figures"]["tokens_per_step"] > 32 * 4 * 5
    assert theirs["precision"] == "fp32" and ours["precision"] == result["machine"]["cpu_precision"]
    assert min(ours["peak_gib"], theirs["peak_gib"]) > 0.1
    ratio = result["figures"]["ratios"]["sentence_transformers"]
    assert ratio == pytest.approx(theirs["seconds_per_step"] / ours["seconds_per_step"])
    assert result["bars"][0] == {
        "name": "sentence_transformers_ratio",
        "value": ratio,
        "at_least": 8.0,
        "holds": ratio >= 8.0,
    }
    assert done.returncode == (0 if all(bar["holds"] for bar in result["bars"]) else 1)


@pytest.mark.slow
def test_growth_trains_on_once_4_and_16_times_the_queries_and_judges_the_ends(data):
    command = [sys.executable, str(SCRIPT), "--growth", "--steps", "2", "--data", str(data)]
    done = subprocess.run([*command, "--model", "random:bert-1x32"], capture_output=True, text=True)
    result = json.loads(done.stdout.splitlines()[-1])
    growth = result["figures"]["growth"]
    assert [part["steps"] for part in growth] == [2, 8, 32] and all(part["peak_gib"] > 0.1 for part in growth)
    for bar, name in zip(result["bars"], ("seconds_per_step", "peak_gib"), strict=True):
        assert bar["name"] == f"{name}_growth" and bar["value"] == growth[2][name] / growth[0][name]
    assert done.returncode == (0 if all(bar["holds"] for bar in result["bars"]) else 1)


def test_missing_data_is_named(tmp_path):
    done = subprocess.run([sys.executable, str(SCRIPT), "--data", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 2 and str(tmp_path) in done.stderr and "--data" in done.stderr
