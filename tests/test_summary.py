from pathlib import Path

import pytest

from ragsmith.summary import interval, print_summary, relative


def estimate(mean):
    return {"mean": mean, "ci95": [mean - 0.05, mean + 0.05]}


METRICS = {
    "queries": {"test": 40},
    "retrieval": {
        "bm25": {"ndcg@10": estimate(0.4), "mrr@10": estimate(0.35)},
        "tuned": {"ndcg@10": estimate(0.6), "mrr@10": estimate(0.55)},
    },
    "comparisons": [
        {
            "a": "bm25",
            "b": "tuned",
            "metric": "mrr@10",
            "difference": 0.2,
            "ci95": [0.1, 0.3],
            "p": 0.01,
            "p_holm": 0.02,
        },
        {
            "a": "bm25",
            "b": "tuned",
            "metric": "ndcg@10",
            "difference": 0.2,
            "ci95": [0.1, 0.3],
            "p": 0.5,
            "p_holm": 1.0,
        },
    ],
    "answers": {"em": estimate(0.45), "f1": estimate(0.5)},
}


@pytest.fixture
def shown(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")

    def show(metrics=METRICS, paths=None):
        print_summary(metrics, paths or {})
        return capsys.readouterr().out

    return show


def test_each_system_has_its_means_with_intervals(shown):
    text = shown()
    assert "40 test questions, mean [95 % interval]" in text
    (line,) = [line for line in text.splitlines() if "tuned" in line and "0.600" in line]
    assert "0.600 [0.550, 0.650]" in line and "0.550 [0.500, 0.600]" in line


def test_comparisons_are_told_once_with_their_evidence(shown):
    text = shown()
    assert "tuned against bm25: mrr@10 +0.200 [+0.100, +0.300], p = 0.0100 (Holm 0.0200)" in text
    assert text.count("against") == 1


def test_without_mrr_the_first_metric_is_compared(shown):
    systems = {name: {"ndcg@10": scores["ndcg@10"]} for name, scores in METRICS["retrieval"].items()}
    assert "tuned against bm25: ndcg@10" in shown(METRICS | {"retrieval": systems})


def test_reader_is_left_out_when_there_is_none(shown):
    assert "reader: EM 0.450 [0.400, 0.500], F1 0.500 [0.450, 0.550]" in shown()
    assert "reader:" not in shown(METRICS | {"answers": None})


def test_paths_are_given_from_here_and_the_next_commands_only_with_a_bundle(shown, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = shown(paths={"report": tmp_path / "data" / "report.html", "bundle": Path("/elsewhere/[bundle]")})
    assert "report: data/report.html" in text and "bundle: /elsewhere/[bundle]" in text
    assert 'kedro ask "How do I pause my program for a few seconds?"' in text and "kedro viz run" in text
    assert "kedro ask" not in shown(paths={"report": tmp_path / "report.html"})


def test_path_outside_of_here_stays_whole(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert relative(tmp_path / "other") == str(tmp_path / "other")
    assert relative(tmp_path / "here" / "x") == "x"


def test_interval_is_in_square_brackets_with_three_digits():
    assert interval({"mean": 0.5, "ci95": [0.1239, 0.9]}) == "0.500 [0.124, 0.900]"
