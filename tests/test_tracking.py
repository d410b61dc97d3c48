"""MLflow learns of runs where someone wants that, and of nothing otherwise, even where its plugin is installed."""

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline

from ragsmith.datasets import JSONDocument, TextDocument
from ragsmith.hooks import TrackingHooks
from ragsmith.tracking import PLUGIN, SWITCH, log_outputs, tracked_metrics, tracking_wanted

ROOT = Path(__file__).parents[1]
ESTIMATE = {"mean": 0.5, "ci95": [0.4, 0.6]}
METRICS = {
    "retrieval": {"tuned": {"ndcg@10": ESTIMATE, "mrr@10": {"mean": 1, "ci95": [1, 1]}}},
    "comparisons": [{"difference": 0.1}],
    "answers": {"em": ESTIMATE},
    "conditions": {"oracle": {"rougeL": ESTIMATE}},
    "decomposition": {"bounds": {"perfect_retrieval": None, "now": ESTIMATE}, "queries": 3},
    "judge": None,
    "run": {"seed": 0},
}
MEANS = {
    "retrieval/tuned/ndcg_10": 0.5,
    "retrieval/tuned/mrr_10": 1.0,
    "answers/em": 0.5,
    "conditions/oracle/rougeL": 0.5,
    "decomposition/bounds/now": 0.5,
}
# A plugin that says when it is active, as the one that is meant would open its store.
FAKE = """
from kedro.framework.hooks import hook_impl

class Hook:
    @hook_impl
    def after_context_created(self, context):
        print("THE PLUGIN IS ACTIVE")

hook = Hook()
"""


def kedro(*arguments, switch=None, site=None):
    path = [str(ROOT / "src"), *([str(site)] if site else [])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    environment.pop(SWITCH, None)
    return subprocess.run(
        [sys.executable, "-m", "kedro", *arguments],
        cwd=ROOT,
        env=environment | ({SWITCH: switch} if switch is not None else {}),
        capture_output=True,
        text=True,
    )


@pytest.fixture(params=PLUGIN)
def site(tmp_path, request):
    """A folder of packages in which a plugin of this name is installed."""
    (tmp_path / "kedro_mlflow.py").write_text(FAKE)
    info = tmp_path / "kedro_mlflow-99.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {request.param}\nVersion: 99\n")
    (info / "entry_points.txt").write_text("[kedro.hooks]\nmlflow_hook = kedro_mlflow:hook\n")
    return tmp_path


@pytest.mark.parametrize("switch", [None, "", "0", "false", "NO", " off "])
def test_tracking_is_off_by_default_and_can_be_said_to_be(monkeypatch, switch):
    monkeypatch.delenv(SWITCH, raising=False)
    if switch is not None:
        monkeypatch.setenv(SWITCH, switch)
    assert not tracking_wanted()


@pytest.mark.parametrize("switch", ["1", "true", "yes", "on"])
def test_tracking_is_on_where_it_is_wanted(monkeypatch, switch):
    monkeypatch.setenv(SWITCH, switch)
    assert tracking_wanted()


def test_installed_plugin_does_nothing_until_it_is_wanted(site):
    silent = kedro("compare", site=site)
    assert silent.returncode == 0 and "ACTIVE" not in silent.stdout, silent.stderr
    assert "THE PLUGIN IS ACTIVE" in kedro("compare", site=site, switch="1").stdout


@pytest.mark.skipif(find_spec("kedro_mlflow") is not None, reason="kedro-mlflow is installed")
def test_wanted_and_not_installed_is_told_with_the_command_that_installs_it():
    told = kedro("compare", switch="1")
    assert told.returncode == 1 and "Traceback" not in told.stderr
    assert "pip install 'ragsmith[mlflow]'" in told.stderr


def test_every_mean_is_tracked_by_its_path_and_nothing_else():
    assert tracked_metrics(METRICS) == MEANS
    assert tracked_metrics({}) == {}
    assert tracked_metrics({"a<b>@\n": {"mean": 1.0}, "c": {"mean": True}, "d": {"mean": None}}) == {"a_b___": 1.0}


def test_distribution_is_called_as_the_switch_expects():
    try:
        name = distribution("kedro-mlflow").metadata["Name"]
    except PackageNotFoundError:
        pytest.skip("kedro-mlflow is not installed: pip install 'ragsmith[mlflow]'")
    assert name in PLUGIN


def test_configuration_is_one_that_the_plugin_takes():
    config = pytest.importorskip(
        "kedro_mlflow.config.kedro_mlflow_config",
        reason="kedro-mlflow is not installed: pip install 'ragsmith[mlflow]'",
    )
    given = yaml.safe_load((ROOT / "conf/base/mlflow.yml").read_text("utf-8"))
    assert config.KedroMlflowConfig.model_validate(given).tracking.experiment.name == "ragsmith"


@pytest.fixture
def mlflow(tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed: pip install 'ragsmith[mlflow]'")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    mlflow.create_experiment("trial", artifact_location=(tmp_path / "artifacts").as_uri())
    mlflow.set_experiment("trial")
    yield mlflow
    mlflow.end_run()


@pytest.fixture
def catalog(tmp_path):
    metrics = JSONDocument(filepath=str(tmp_path / "metrics.json"))
    report = TextDocument(filepath=str(tmp_path / "report.html"))
    metrics.save(METRICS)
    report.save("<html></html>")
    return DataCatalog({"metrics": metrics, "report": report})


def score():
    return METRICS, ""


SCORING = Pipeline([Node(score, None, ["metrics", "report"], name="score")])


@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_means_metrics_and_report_reach_the_open_run(mlflow, catalog):
    with mlflow.start_run() as run:
        TrackingHooks().after_pipeline_run({}, SCORING, catalog)
    client = mlflow.MlflowClient()
    assert client.get_run(run.info.run_id).data.metrics == MEANS
    assert {item.path for item in client.list_artifacts(run.info.run_id)} == {"metrics.json", "report.html"}


@pytest.mark.filterwarnings("ignore")
def test_without_an_open_run_none_is_opened(mlflow, catalog):
    TrackingHooks().after_pipeline_run({}, SCORING, catalog)
    assert log_outputs(METRICS, []) is None and mlflow.active_run() is None
    assert mlflow.MlflowClient().search_runs(["1"]) == []


@pytest.mark.skipif(find_spec("mlflow") is not None, reason="MLflow is installed")
def test_results_that_cannot_be_logged_are_a_warning_and_no_failure(catalog, caplog):
    TrackingHooks().after_pipeline_run({}, SCORING, catalog)
    assert "MLflow did not take the results: No module named 'mlflow'" in caplog.text
