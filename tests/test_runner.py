"""Repeating a run does only what is new, missing or damaged, and says so."""

import functools
import importlib
import logging
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from kedro.framework.hooks import _create_hook_manager, hook_impl
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline
from pydantic import BaseModel

from ragsmith.runner import PIPELINE_PACKAGES, RecognisingRunner, code_hash, provenance_of
from ragsmith.store import read_metadata

CALLS: list[str] = []


class TrainParams(BaseModel):
    epochs: int = 1


def collect(folder: Path, limit: int) -> dict[str, Any]:
    CALLS.append("collect")
    return {"texts": [path.read_text() for path in sorted(folder.iterdir())][:limit]}


def count(documents: dict[str, Any]) -> dict[str, Any]:
    CALLS.append("count")
    return {"count": len(documents["texts"])}


def train(counts: dict[str, Any], params: TrainParams, work: Path) -> Path:
    CALLS.append("train")
    if (work / "fail").exists():
        raise RuntimeError("out of memory")
    model = work / "model"
    model.mkdir(exist_ok=True)
    (model / "weights").write_text(f"{counts['count']} {params.epochs}")
    return model


def report(model: Path) -> str:
    CALLS.append("report")
    return (model / "weights").read_text()


PIPELINE = Pipeline(
    [
        Node(collect, ["source", "params:limit"], "documents", name="collect"),
        Node(count, "documents", "counts", name="count"),
        Node(train, ["counts", "params:train", "work"], "model", name="train"),
        Node(report, "model", "report", name="report"),
    ]
)
ALL = ["collect", "count", "train", "report"]


@pytest.fixture
def project(tmp_path) -> Path:
    (tmp_path / "source").mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / "source" / name).write_text(name)
    return tmp_path


def make_catalog(project: Path, limit: int = 2, epochs: int = 1) -> DataCatalog:
    kinds = {
        "source": "SourceFolder",
        "documents": "JSONDocument",
        "counts": "JSONDocument",
        "work": "WorkDirectory",
        "model": "ArtefactDirectory",
        "report": "TextDocument",
    }
    catalog = DataCatalog.from_config(
        {name: {"type": f"ragsmith.datasets.{kind}", "filepath": str(project / name)} for name, kind in kinds.items()}
    )
    catalog["params:limit"] = limit
    catalog["params:train"] = TrainParams(epochs=epochs)
    return catalog


def run(project: Path, pipeline: Pipeline = PIPELINE, hooks: Any = None, **params: int) -> list[str]:
    """The steps that one run executed, in order."""
    CALLS.clear()
    manager = _create_hook_manager()
    if hooks is not None:
        manager.register(hooks)
    RecognisingRunner().run(pipeline, make_catalog(project, **params), manager)
    return list(CALLS)


def test_second_run_executes_nothing(project):
    assert run(project) == ALL
    assert run(project) == []


def test_metadata_names_the_step_and_the_hashes_of_what_it_read(project):
    run(project)
    documents, counts = read_metadata(project / "documents"), read_metadata(project / "counts")
    assert documents is not None and counts is not None and counts.provenance is not None
    assert counts.provenance.node == "count" and counts.provenance.inputs == {"documents": documents.content_hash}


def test_changed_parameter_runs_only_what_depends_on_it(project):
    run(project)
    assert run(project, epochs=2) == ["train", "report"]
    assert run(project, epochs=2) == []


def test_step_below_runs_only_if_the_content_above_it_changed(project):
    run(project, limit=3)
    # The limit is another, but all of the three files still fit: same documents.
    assert run(project, limit=4) == ["collect"]
    assert run(project, limit=1) == ALL


def test_changed_input_file_runs_what_depends_on_it(project):
    run(project)
    (project / "source" / "a").write_text("changed")
    assert run(project) == ["collect", "count"]


def test_deleted_output_is_made_again_and_nothing_below_it(project):
    run(project)
    (project / "counts").unlink()
    assert run(project) == ["count"]
    assert run(project) == []


def test_altered_output_is_made_again(project):
    run(project)
    (project / "model" / "weights").write_text("9 9")
    assert run(project) == ["train"]
    assert (project / "report").read_text() == "2 1"


def test_run_goes_on_after_a_failed_step_and_says_how(project, caplog):
    (project / "work").mkdir()
    (project / "work" / "fail").touch()
    with pytest.raises(RuntimeError, match="out of memory"):
        run(project)
    assert '--from-nodes "train"' in caplog.text and "repeat the same command" in caplog.text
    (project / "work" / "fail").unlink()
    assert run(project) == ["train", "report"]


def test_log_tells_where_a_run_is_and_what_it_recognised(project, caplog):
    caplog.set_level(logging.INFO, logger="ragsmith.runner")
    run(project)
    assert "node 3/4 train …" in caplog.text and "train done in 0.0 s" in caplog.text
    assert "4 steps: 4 run, 0 recognised" in caplog.text
    caplog.clear()
    run(project, epochs=2)
    assert "recognised: collect — nothing changed" in caplog.text and "4 steps: 2 run, 2 recognised" in caplog.text


class Listener:
    def __init__(self) -> None:
        self.heard: list[str] = []

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        self.heard.append(f"before {node.name}")

    @hook_impl
    def after_node_run(self, node: Node) -> None:
        self.heard.append(f"after {node.name}")

    @hook_impl
    def before_dataset_loaded(self, dataset_name: str) -> None:
        self.heard.append(f"load {dataset_name}")


def test_hooks_hear_of_the_steps_that_run_and_nothing_is_loaded_for_the_others(project):
    run(project)
    listener = Listener()
    run(project, hooks=listener, epochs=2)
    loads = ["load counts", "load params:train", "load work"]
    assert listener.heard == [*loads, "before train", "after train", "load model", "before report", "after report"]


def test_step_with_a_table_in_memory_or_no_output_always_runs(project):
    middle = Pipeline(
        [
            Node(collect, ["source", "params:limit"], "in_memory", name="collect"),
            Node(count, "in_memory", "counts", name="count"),
            Node(show, "counts", None, name="show"),
        ]
    )
    assert run(project, middle) == run(project, middle) == ["collect", "count", "show"]


def show(counts: dict[str, Any]) -> None:
    CALLS.append("show")


def test_memory_is_released_when_the_last_step_that_reads_it_is_done(project):
    catalog = make_catalog(project)
    catalog["in_memory"] = memory = MemoryDataset()
    steps = [
        Node(collect, ["source", "params:limit"], "in_memory", name="collect"),
        Node(count, "in_memory", "counts", name="count"),
    ]
    RecognisingRunner().run(Pipeline(steps), catalog)
    assert not memory.exists()


def test_parameter_that_cannot_be_compared_makes_the_step_run(project, caplog):
    run(project)
    catalog = make_catalog(project)
    catalog["params:train"] = MemoryDataset(object(), copy_mode="assign")
    assert provenance_of(PIPELINE.nodes[2], catalog, "code") is None
    assert "params:train cannot be compared" in caplog.text


def test_name_of_the_step_and_its_code_are_part_of_the_fingerprint(project):
    run(project)
    node, catalog = PIPELINE.nodes[1], make_catalog(project)
    base = provenance_of(node, catalog, "code")
    other_code, other_name = provenance_of(node, catalog, "c0de"), provenance_of(node._copy(name="x"), catalog, "code")
    assert base is not None and other_code is not None and other_name is not None
    assert len({base.fingerprint, other_code.fingerprint, other_name.fingerprint}) == 3


def test_runner_refuses_to_save_in_threads():
    with pytest.raises(ValueError, match="is_async"):
        RecognisingRunner(is_async=True)


def test_kedro_viz_takes_the_runner_for_a_sequential_one():
    status = pytest.importorskip("kedro_viz.integrations.kedro.hooks_utils")
    assert status.is_sequential_runner({"runner": str(RecognisingRunner())})


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A package laid out as ours, imported; gives its folder and a way to read a pipeline's step function."""
    root = tmp_path / "toyrag"
    for name in ("pipelines/data_collection", "pipelines/evaluation", "collect", "evaluate", "store", "gadgets"):
        folder = root / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
        (folder / "nodes.py").write_text("def step(x):\n    return x\n")
    for folder in (root, root / "pipelines"):
        (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))

    def step(pipeline: str):
        return importlib.import_module(f"toyrag.pipelines.{pipeline}.nodes").step

    yield root, step
    for name in [name for name in sys.modules if name.partition(".")[0] == "toyrag"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("changed", "collects", "evaluates"),
    [
        ("collect/nodes.py", True, True),
        ("evaluate/nodes.py", False, True),
        ("evaluate/report.html.j2", False, True),
        ("pipelines/data_collection/nodes.py", True, False),
        ("store/nodes.py", True, True),
        ("gadgets/nodes.py", False, False),
        ("settings.py", False, False),
    ],
)
def test_edit_touches_only_the_pipelines_that_may_use_the_code(toy, changed, collects, evaluates):
    root, step = toy
    before = code_hash(step("data_collection")), code_hash(step("evaluation"))
    (root / changed).write_text("# edited\n")
    after = code_hash(step("data_collection")), code_hash(step("evaluation"))
    assert None not in before
    assert (before[0] != after[0], before[1] != after[1]) == (collects, evaluates)


def test_function_whose_code_is_not_in_a_file_has_no_code_hash():
    captured = 3
    assert code_hash(functools.partial(collect, limit=1)) is None
    assert code_hash(lambda documents: documents[captured]) is None
    assert code_hash(eval("lambda x: x", {"__name__": "nowhere"})) is None
    assert code_hash(collect) is not None


def test_each_stage_sees_the_code_of_those_before_it():
    stages = list(PIPELINE_PACKAGES.values())
    assert all(set(before) <= set(after) for before, after in pairwise(stages))
