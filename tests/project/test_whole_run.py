"""One whole `kedro run --env test`, as a person sees it, and what the next runs make of its results."""

import json
import math
import re

import pytest

from ragsmith.pipelines.evaluation import create_pipeline
from ragsmith.serve.bundle import read_manifest

pytestmark = pytest.mark.slow
SYSTEMS = ["bm25", "base", "tuned", "hybrid"]
METRICS = ["ndcg@10", "mrr@10", "recall@10"]
EVERY_PIPELINE = """
from pathlib import Path
from kedro.framework.project import pipelines
from kedro.framework.startup import bootstrap_project
from ragsmith.session import RagsmithSession

bootstrap_project(Path.cwd())
for name in list(pipelines):
    session = RagsmithSession.create(Path.cwd(), env="test", save_on_close=False)
    session.run(pipeline_names=[name])
    print("RAN", name, flush=True)
"""


def steps(log: str) -> tuple[int, int]:
    """How many steps a run ran and how many it recognised."""
    found = re.search(r"(\d+) run, (\d+) recognised", log)
    assert found is not None, log
    return int(found[1]), int(found[2])


def names_of_run_steps(log: str) -> list[str]:
    return re.findall(r"node \d+/\d+ (\w+) …", log)


def is_interval(estimate: dict) -> bool:
    low, high = estimate["ci95"]
    return math.isfinite(estimate["mean"]) and 0 <= low <= estimate["mean"] <= high <= 1


def test_whole_run_takes_at_most_two_minutes_and_runs_every_step(finished):
    assert finished.processor_seconds < 120
    run, recognised = steps(finished.log)
    assert run == len(names_of_run_steps(finished.log)) > 20 and recognised == 0


def test_run_ends_with_a_table_and_says_where_things_lie_and_what_to_try(finished):
    table = finished.log.split("test questions, mean")[1]
    assert all(f"│ {system} " in table for system in SYSTEMS)
    assert "reader: EM" in table and "report: data/test/08_reporting/report.html" in table
    assert "bundle: data/test/06_models/bundle" in table and 'kedro ask "' in table
    assert finished.warns_of_the_reader_alone(finished.log)


def test_metrics_have_the_shape_that_is_promised(finished):
    metrics = finished.metrics()
    assert list(metrics["retrieval"]) == SYSTEMS
    for scores in metrics["retrieval"].values():
        assert list(scores) == METRICS and all(map(is_interval, scores.values()))
    assert list(metrics["answers"]) == ["em", "f1", "bleu", "rouge1", "rouge2", "rougeL"] and all(
        map(is_interval, metrics["answers"].values())
    )
    first = metrics["comparisons"][0]
    assert (first["a"], first["b"], first["metric"]) == ("base", "tuned", "ndcg@10")
    means = {name: metrics["retrieval"][name]["ndcg@10"]["mean"] for name in ("base", "tuned")}
    assert first["difference"] == pytest.approx(means["tuned"] - means["base"])
    assert first["ci95"][0] <= first["difference"] <= first["ci95"][1] and 0 < first["p"] <= 1
    assert metrics["run"]["seed"] == 0 and metrics["run"]["passages"] > 100


def test_trained_weights_ship_and_rank_other_than_the_base(finished):
    gate = {row["name"]: row for row in finished.metrics()["gate"]}
    assert not gate["base"]["shipped"] and sum(row["shipped"] for row in gate.values()) == 1
    hashes = finished.artefacts()
    assert hashes["06_models/index"] != hashes["06_models/base_index"]
    assert finished.metrics()["retrieval"]["tuned"] != finished.metrics()["retrieval"]["base"]


def test_report_is_one_file_with_every_system(finished):
    report = (finished.data / "08_reporting/report.html").read_text("utf-8")
    assert all(f">{system}<" in report for system in SYSTEMS)
    assert 'src="http' not in report and 'href="http' not in report


def test_bundle_is_whole_and_is_what_was_evaluated(finished):
    manifest = read_manifest(finished.data / "06_models/bundle")
    assert manifest["metrics"]["retrieval"] == finished.metrics()["retrieval"]
    weights = "model.safetensors"
    assert (finished.data / "06_models/bundle/retriever" / weights).read_bytes() == (
        finished.data / "06_models/retriever" / weights
    ).read_bytes()


def test_kedro_ask_answers_from_the_bundle(finished):
    done = finished.kedro("ask", "--env", "test", "--json", "-k", "3", "--mode", "bm25", "delete a directory tree")
    assert done.returncode == 0, done.stdout
    answer = json.loads(done.stdout)
    # A piece of a long section is read below its title.
    passage = f"{answer['hit']['title']}\n{answer['hit']['text']}"
    assert len(answer["hits"]) == 3 and answer["text"] and answer["text"] in passage
    assert "shutil.rmtree" in [hit["title"] for hit in answer["hits"]]


def test_second_run_recognises_every_step_and_leaves_all_as_it_is(finished, finished_copy):
    before = {path: path.stat().st_mtime_ns for path in finished_copy.data.rglob("*.parquet")}
    log = finished_copy.run()
    assert steps(log) == (0, steps(finished.log)[0])
    assert "test questions, mean" in log  # the table is shown all the same
    assert {path: path.stat().st_mtime_ns for path in finished_copy.data.rglob("*.parquet")} == before


def test_changed_evaluation_parameter_runs_evaluation_and_serving_only(finished_copy):
    done = finished_copy.kedro("run", "--env", "test", "--params", "evaluation.depth=150")
    assert done.returncode == 0, done.stdout
    ran = set(names_of_run_steps(done.stdout))
    assert {"retrieve_runs", "read_answers", "score"} <= ran
    evaluation = {node.name for node in create_pipeline().nodes}
    assert ran <= evaluation | {"make_bundle", "check_bundle"}


def test_lost_artefact_is_made_again_and_is_the_same(finished_copy):
    before = finished_copy.artefacts()
    (finished_copy.data / "07_model_output/runs.parquet").unlink()
    assert names_of_run_steps(finished_copy.run()) == ["retrieve_runs"]
    assert finished_copy.artefacts() == before


@pytest.mark.parametrize("option", ["--pipeline", "--pipelines"])
def test_one_pipeline_runs_by_itself_with_either_option(finished_copy, option):
    (finished_copy.data / "08_reporting/reader_training.plotly.json").unlink()
    log = finished_copy.run(option, "rag_training")
    assert steps(log) == (1, 2) and names_of_run_steps(log) == ["plot_reader_training"]


def test_every_registered_pipeline_runs_by_name(finished_copy):
    done = finished_copy.python("-c", EVERY_PIPELINE)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("RAN ") == 11 and names_of_run_steps(done.stdout) == []
