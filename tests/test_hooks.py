import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline

from ragsmith.datasets import JSONDocument, TextDocument
from ragsmith.hooks import ProjectHooks, artefact_paths
from ragsmith.pipelines.params import ComputeParams
from ragsmith.session import UserError

ESTIMATE = {"mean": 0.5, "ci95": [0.4, 0.6]}
METRICS = {"queries": {"test": 7}, "retrieval": {"tuned": {"mrr@10": ESTIMATE}}, "comparisons": [], "answers": None}


def make(compute):
    return compute


def pipeline_of(*outputs):
    return Pipeline([Node(make, "params:compute", output, name=f"make_{output}") for output in outputs])


@pytest.fixture
def catalog(tmp_path):
    metrics = JSONDocument(filepath=str(tmp_path / "metrics.json"))
    report = TextDocument(filepath=str(tmp_path / "report.html"))
    return DataCatalog({"params:compute": MemoryDataset({}), "metrics": metrics, "report": report})


@pytest.mark.parametrize("kind", [dict, ComputeParams.model_validate])
def test_ray_is_refused_before_anything_is_done(catalog, kind):
    catalog["params:compute"] = MemoryDataset(kind({"backend": "ray"}))
    with pytest.raises(UserError, match=r"compute\.backend is 'ray', which is not there yet") as error:
        ProjectHooks().before_pipeline_run({}, pipeline_of("metrics"), catalog)
    assert "\n" not in str(error.value)


def test_local_back_end_and_a_run_that_computes_nothing_pass(catalog):
    catalog["params:compute"] = MemoryDataset(ComputeParams(backend="local"))
    ProjectHooks().before_pipeline_run({}, pipeline_of("metrics"), catalog)
    catalog["params:compute"] = MemoryDataset(ComputeParams(backend="ray"))
    ProjectHooks().before_pipeline_run({}, Pipeline([]), catalog)


def test_run_that_made_metrics_ends_with_the_table_and_where_things_lie(catalog, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    catalog["metrics"].save(METRICS)
    ProjectHooks().after_pipeline_run({}, pipeline_of("metrics", "report"), catalog)
    text = capsys.readouterr().out
    assert "7 test questions" in text and "0.500 [0.400, 0.600]" in text
    assert f"report: {tmp_path / 'report.html'}" in text and f"metrics: {tmp_path / 'metrics.json'}" in text


@pytest.mark.parametrize("outputs", [["report"], ["metrics"]], ids=["other pipeline", "metrics not written"])
def test_run_without_metrics_shows_no_table(catalog, capsys, outputs):
    if outputs == ["report"]:
        catalog["metrics"].save(METRICS)
    ProjectHooks().after_pipeline_run({}, pipeline_of(*outputs), catalog)
    assert capsys.readouterr().out == ""


def test_paths_are_of_what_the_run_made_only(catalog, tmp_path):
    assert artefact_paths(catalog, pipeline_of("metrics")) == {"metrics": tmp_path / "metrics.json"}
