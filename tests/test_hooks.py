import os

import pandas as pd
import pytest
from kedro.config import OmegaConfigLoader
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline

from ragsmith.datasets import JSONDocument, ParquetTable, TextDocument, WorkDirectory
from ragsmith.evaluate.history import version_names
from ragsmith.faults import UserError
from ragsmith.hooks import ProjectHooks, artefact_paths, find_cluster
from ragsmith.pipelines.params import ComputeParams

ESTIMATE = {"mean": 0.5, "ci95": [0.4, 0.6]}
METRICS = {"queries": {"test": 7}, "retrieval": {"tuned": {"mrr@10": ESTIMATE}}, "comparisons": [], "answers": None}


def make(compute):
    return compute


def make_of_two(compute, training):
    return compute


def pipeline_of(*outputs):
    return Pipeline([Node(make, "params:compute", output, name=f"make_{output}") for output in outputs])


@pytest.fixture
def catalog(tmp_path):
    metrics = JSONDocument(filepath=str(tmp_path / "metrics.json"))
    report = TextDocument(filepath=str(tmp_path / "report.html"))
    table = ParquetTable(filepath=str(tmp_path / "per_query.parquet"))
    history = WorkDirectory(filepath=str(tmp_path / "history"))
    found = {"metrics": metrics, "report": report, "per_query": table, "history": history}
    return DataCatalog({"params:compute": MemoryDataset({}), **found})


RETRIEVER = Pipeline([Node(make_of_two, ["params:compute", "params:retriever_training"], "model", name="train")])


@pytest.mark.parametrize("kind", [dict, ComputeParams.model_validate])
@pytest.mark.parametrize(
    ("trainer", "said"),
    [
        ("native", r"retriever_training: compute.backend is ray, which needs Ray. Run: pip"),
        ("sentence_transformers", r"runs in one process on this machine. Set compute.backend to local"),
    ],
)
def test_back_end_that_lacks_ray_is_said_before_anything_is_done(catalog, monkeypatch, kind, trainer, said):
    monkeypatch.setattr("ragsmith.compute.ray_cluster.find_spec", lambda name: None)
    catalog["params:compute"] = MemoryDataset(kind({"backend": "ray"}))
    catalog["params:retriever_training"] = MemoryDataset({"backend": trainer})
    with pytest.raises(UserError, match=said) as error:
        ProjectHooks().before_pipeline_run({}, RETRIEVER, catalog)
    assert "\n" not in str(error.value)


def test_no_cluster_is_asked_for_where_no_retriever_is_trained(catalog, monkeypatch):
    monkeypatch.setattr("ragsmith.compute.ray_cluster.find_spec", lambda name: None)
    catalog["params:compute"] = MemoryDataset(ComputeParams(backend="ray"))
    for pipeline in (pipeline_of("metrics"), Pipeline([])):
        ProjectHooks().before_pipeline_run({}, pipeline, catalog)


@pytest.mark.parametrize(("ranks", "refused"), [(1, False), (2, True)])
def test_negatives_of_one_process_alone_are_refused_on_several_before_anything_is_done(catalog, ranks, refused):
    catalog["params:compute"] = MemoryDataset(ComputeParams(ranks=ranks))
    catalog["params:retriever_training"] = MemoryDataset({"negatives_cross_device": False})
    if not refused:
        ProjectHooks().before_pipeline_run({}, RETRIEVER, catalog)
        return
    with pytest.raises(UserError, match=r"negatives_cross_device is false, and compute\.ranks is 2"):
        ProjectHooks().before_pipeline_run({}, RETRIEVER, catalog)


@pytest.mark.parametrize("background", ["ray", "process"])
def test_ray_that_is_not_installed_is_said_before_anything_is_done(catalog, monkeypatch, background):
    monkeypatch.setattr("ragsmith.compute.ray_cluster.find_spec", lambda name: None)
    training = {"mode": "end2end", "refresh": {"background": background}}
    pipeline = Pipeline([Node(make_of_two, ["params:compute", "params:rag_training"], "reader", name="train")])
    catalog["params:rag_training"] = MemoryDataset(training)
    if background == "process":
        ProjectHooks().before_pipeline_run({}, pipeline, catalog)
        return
    with pytest.raises(UserError, match=r"rag_training: .* needs Ray. Run: pip install 'ragsmith\[cluster") as error:
        ProjectHooks().before_pipeline_run({}, pipeline, catalog)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("step", "settings"), [("retriever_training", {}), ("rag_training", {"mode": "end2end", "reader": "rag_token"})]
)
@pytest.mark.parametrize("rank", [8, 0])
def test_peft_that_is_not_installed_is_said_before_anything_is_done(catalog, monkeypatch, step, settings, rank):
    monkeypatch.setattr("ragsmith.learn.lora.find_spec", lambda name: None)
    catalog[f"params:{step}"] = MemoryDataset({**settings, "lora": {"rank": rank}})
    pipeline = Pipeline([Node(make_of_two, ["params:compute", f"params:{step}"], "model", name="train")])
    if not rank:
        ProjectHooks().before_pipeline_run({}, pipeline, catalog)
        return
    with pytest.raises(
        UserError, match=rf"{step}.lora.rank is 8, which needs peft. Run: pip install 'ragsmith\[lora"
    ) as error:
        ProjectHooks().before_pipeline_run({}, pipeline, catalog)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("written", "set_before", "address"),
    [("auto", None, "auto"), ("auto", "10.0.0.1:6379", "10.0.0.1:6379"), (None, None, None)],
)
def test_cluster_is_the_one_of_the_environments_file_unless_ray_address_names_another(
    tmp_path, monkeypatch, written, set_before, address
):
    (tmp_path / "base").mkdir()
    (tmp_path / "local").mkdir()
    if written:
        (tmp_path / "local/ray.yml").write_text(f"init: {{address: {written}}}")
    monkeypatch.setenv("RAY_ADDRESS", "")  # so that it is put back as it was
    monkeypatch.delenv("RAY_ADDRESS")
    if set_before:
        monkeypatch.setenv("RAY_ADDRESS", set_before)
    settings = {"base_env": "base", "default_run_env": "local", "config_patterns": {"ray": ["ray*", "ray*/**"]}}
    find_cluster(OmegaConfigLoader(str(tmp_path), **settings), "step", lambda: None)  # no cluster is there
    assert os.environ.get("RAY_ADDRESS") == address


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


def test_run_that_made_metrics_keeps_them_as_a_version_once(catalog, tmp_path, caplog):
    caplog.set_level("INFO")
    pipeline = pipeline_of("metrics", "per_query")
    for queries, versions in ((7, 1), (7, 1), (8, 2)):
        catalog["metrics"].save({**METRICS, "queries": {"test": queries}})
        catalog["per_query"].save(pd.DataFrame({"query_id": ["q"]}))
        ProjectHooks().after_pipeline_run({}, pipeline, catalog)
        assert len(version_names(tmp_path / "history")) == versions
    kept = [message for message in caplog.messages if message.startswith("kept as version")]
    assert len(kept) == 2 and kept[1].endswith("; `kedro compare previous latest` says what changed")
    assert not any(record.levelname == "WARNING" for record in caplog.records)


def test_version_that_cannot_be_kept_is_a_warning_and_no_failure(catalog, tmp_path, caplog, capsys):
    catalog["metrics"].save(METRICS)
    ProjectHooks().after_pipeline_run({}, pipeline_of("metrics", "per_query"), catalog)
    assert "per_query.parquet does not exist yet" in caplog.text
    catalog["per_query"].save(pd.DataFrame({"query_id": ["q"]}))
    (tmp_path / "history").write_text("a file of the user's")
    ProjectHooks().after_pipeline_run({}, pipeline_of("metrics", "per_query"), catalog)
    assert caplog.text.count("were not kept as a version") == 2
    assert "7 test questions" in capsys.readouterr().out
    assert (tmp_path / "history").read_text() == "a file of the user's"


def test_run_of_metrics_alone_keeps_no_version(catalog, tmp_path, caplog):
    catalog["metrics"].save(METRICS)
    ProjectHooks().after_pipeline_run({}, pipeline_of("metrics"), catalog)
    assert version_names(tmp_path / "history") == [] and caplog.text == ""
