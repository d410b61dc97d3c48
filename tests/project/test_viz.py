"""kedro-viz's static build holds the whole DAG. It exits with 0 when it fails, so its files are what is looked at."""

import json

import pytest

pytestmark = pytest.mark.slow
# In the order in which they are drawn. kedro-viz gives none at all where they form a circle.
LAYERS = ["raw", "intermediate", "primary", "feature", "model_input", "models", "model_output", "reporting", "serving"]
FIGURES = ["retrieval_figure", "rank_figure", "retriever_plot", "reader_plot"]
TABLES = ["documents", "passages", "gold", "splits", "queries", "qrels", "answers", "mined", "runs", "predictions"]


@pytest.fixture
def build(finished_copy):
    """The folder of a fresh build, with previews of the data."""
    assert not (finished_copy.folder / "build").exists()
    done = finished_copy.kedro("viz", "build", "--include-previews", KEDRO_ENV="test")
    assert (finished_copy.folder / "build/api/main").is_file(), done.stdout
    assert "Layers visualisation is disabled" not in done.stdout
    return finished_copy.folder / "build"


def test_static_build_holds_steps_layers_parameters_and_previews(build, finished):
    main = json.loads((build / "api/main").read_text("utf-8"))
    names = {kind: [node["name"] for node in main["nodes"] if node["type"] == kind] for kind in ("task", "data")}
    steps = finished.log.count("done in ")
    assert len(names["task"]) == steps and {"train_retriever", "train_reader", "make_bundle"} <= set(names["task"])
    assert main["layers"] == LAYERS
    assert {"rag_training", "end_to_end"} <= {pipeline["id"] for pipeline in main["pipelines"]}
    assert (build / "index.html").is_file()

    shown = {node["name"]: json.loads((build / "api/nodes" / node["id"]).read_text("utf-8")) for node in main["nodes"]}
    for name in TABLES:
        assert shown[name]["preview_type"] == "TablePreview" and shown[name]["preview"]["data"], name
    for name in FIGURES:
        assert shown[name]["preview_type"] == "PlotlyPreview" and shown[name]["preview"]["data"], name
    assert json.loads(shown["metrics"]["preview"]) == finished.metrics()
    assert shown["params:rag_training"]["parameters"]["rag_training"]["learning_rate"] > 0
