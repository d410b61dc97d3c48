"""What a person got wrong is said before any step runs, all of it, with the place to put it right."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from kedro.framework.startup import bootstrap_project
from kedro.runner import SequentialRunner, ThreadRunner

from ragsmith.faults import UserError
from ragsmith.session import _recognising

FILES = {
    "pyproject.toml": """
        [tool.kedro]
        package_name = "toyproj"
        project_name = "toyproj"
        kedro_init_version = "KEDRO_VERSION"
        source_dir = "src"
    """,
    ".telemetry": "consent: false",
    "src/toyproj/__init__.py": "",
    "src/toyproj/settings.py": """
        from ragsmith.session import RagsmithSession

        SESSION_CLASS = RagsmithSession
        CONFIG_LOADER_ARGS = {
            "base_env": "base",
            "default_run_env": "local",
            "merge_strategy": {"parameters": "soft", "globals": "soft"},
        }
    """,
    "src/toyproj/pipeline_registry.py": """
        from kedro.pipeline import Pipeline

        from toyproj.pipelines.retriever_training.pipeline import create_pipeline


        def register_pipelines() -> dict[str, Pipeline]:
            return {"retriever_training": create_pipeline(), "__default__": create_pipeline()}
    """,
    "src/toyproj/pipelines/__init__.py": "",
    "src/toyproj/pipelines/retriever_training/__init__.py": "",
    "src/toyproj/pipelines/retriever_training/nodes.py": """
        from pathlib import Path
        from typing import Any

        from pydantic import BaseModel, Field


        class Optimiser(BaseModel, extra="forbid"):
            learning_rate: float = Field(gt=0)


        class TrainParams(BaseModel, extra="forbid"):
            epochs: int = Field(ge=1)
            optimiser: Optimiser


        class MineParams(BaseModel, extra="forbid"):
            depth: int = Field(ge=1)


        def mine(folder: Path, params: MineParams) -> dict[str, Any]:
            return {"mined": sorted(path.name for path in folder.iterdir())[: params.depth]}


        def train(mined: dict[str, Any], params: TrainParams) -> dict[str, Any]:
            return {"trained": len(mined["mined"]) * params.epochs}
    """,
    "src/toyproj/pipelines/retriever_training/pipeline.py": """
        from kedro.pipeline import Node, Pipeline

        from .nodes import mine, train


        def create_pipeline(**kwargs: object) -> Pipeline:
            return Pipeline(
                [
                    Node(mine, ["source", "params:mine"], "mined", name="mine"),
                    Node(train, ["mined", "params:train"], "trained", name="train"),
                ]
            )
    """,
    "conf/base/globals.yml": """
        paths: {data: data}
        training: {learning_rate: 2e-5}
    """,
    "conf/base/parameters_train.yml": """
        train:
          epochs: 1
          optimiser:
            learning_rate: ${globals:training.learning_rate}
    """,
    "conf/base/parameters_mine.yml": "mine: {depth: 2}",
    "conf/base/catalog.yml": """
        source: {type: ragsmith.datasets.SourceFolder, filepath: "${globals:paths.data}/source"}
        mined: {type: ragsmith.datasets.JSONDocument, filepath: "${globals:paths.data}/mined.json"}
        trained: {type: ragsmith.datasets.JSONDocument, filepath: "${globals:paths.data}/trained.json"}
    """,
    "conf/gpu/globals.yml": "training: {learning_rate: 1e-4}",
    "data/source/a.txt": "a",
}


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    from kedro import __version__

    for name, text in FILES.items():
        write(tmp_path / name, text.replace("KEDRO_VERSION", __version__))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KEDRO_ENV", raising=False)
    monkeypatch.setenv("DO_NOT_TRACK", "1")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "src"), *sys.path])
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))  # which bootstrapping adds to
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "toyproj"]:
        del sys.modules[name]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))


def run(project: Path, env: str | None = None, params: dict[str, Any] | None = None, **kwargs: Any) -> Any:
    from ragsmith.session import RagsmithSession

    bootstrap_project(project)
    with RagsmithSession.create(project, env=env, runtime_params=params, save_on_close=False) as session:
        return session.run(**kwargs)


def refused(project: Path, **kwargs: Any) -> str:
    """The message with which a run is refused; no step may have run."""
    with pytest.raises(UserError) as caught:
        run(project, **kwargs)
    assert not (project / "data" / "trained.json").exists()
    return caught.value.message


def written(project: Path) -> list[int]:
    """When each output was written; logs are no help here, for Kedro sets logging up anew for each project."""
    return [(project / "data" / name).stat().st_mtime_ns for name in ("mined.json", "trained.json")]


def test_plain_run_writes_its_outputs_and_the_next_recognises_them(project):
    run(project)
    assert json.loads((project / "data" / "trained.json").read_text()) == {"trained": 1}
    first = written(project)
    run(project)
    assert written(project) == first
    run(project, env="gpu")
    again = written(project)
    assert again[0] == first[0] and again[1] > first[1]


def test_runner_that_was_asked_for_stays():
    threads, in_threads = ThreadRunner(), SequentialRunner(is_async=True)
    assert _recognising(threads) is threads and _recognising(in_threads) is in_threads
    kinds = {type(_recognising(runner)).__name__ for runner in (None, SequentialRunner())}
    assert kinds == {"RecognisingRunner"}


def test_all_faults_in_parameters_are_listed_with_key_reason_and_place(project):
    write(project / "conf/gpu/parameters_train.yml", "train: {epochs: 0, optimiser: {learning_rat: 1}}")
    write(project / "conf/gpu/globals.yml", "training: {learning_rate: -1.0}")
    message = refused(project, env="gpu", params={"mine": {"depth": "many"}})
    assert message.splitlines()[0] == "4 faults in the parameters; nothing was run:"
    depth, epochs, rate, unknown = message.splitlines()[1:]
    assert depth.startswith("  - mine.depth: Input should be a valid integer")
    assert "(found 'many')" in depth and depth.endswith("Set in conf/base/parameters_mine.yml, --params.")
    assert epochs.startswith("  - train.epochs: Input should be greater than or equal to 1 (found 0).")
    assert epochs.endswith("Set in conf/base/parameters_train.yml, conf/gpu/parameters_train.yml.")
    assert rate.startswith("  - train.optimiser.learning_rate: Input should be greater than 0 (found -1.0).")
    assert "conf/base/parameters_train.yml as ${globals:training.learning_rate}" in rate
    assert "train.optimiser.learning_rat: Extra inputs" in unknown and "Did you mean 'learning_rate'?" in unknown


def test_empty_parameter_is_a_fault(project):
    write(project / "conf/base/parameters_mine.yml", "mine:\n")
    assert "mine: nothing stands here. Set in conf/base/parameters_mine.yml." in refused(project)


def test_parameter_of_a_pipeline_that_is_not_run_does_not_stop_the_run(project):
    registry = project / "src/toyproj/pipeline_registry.py"
    part = '"mining": create_pipeline().only_nodes("mine"), "retriever_training"'
    registry.write_text(registry.read_text().replace('"retriever_training"', part))
    run(project, pipeline_names=["mining"], params={"train": {"epochs": 0}})
    assert (project / "data" / "mined.json").exists()


def test_unknown_keys_are_refused_with_the_nearest_known_one(project):
    write(project / "conf/gpu/parameters.yml", "trian: {epochs: 3}")
    write(project / "conf/gpu/globals.yml", "training: {learning_rates: 1e-4}\npath: {data: elsewhere}")
    message = refused(project, env="gpu", params={"mines": {"depth": 3}, "training": {"learning_rate": 1e-4}})
    assert message.startswith("5 faults in the configuration")
    wanted = [
        "training.learning_rates: conf/base/globals.yml has no such key. Did you mean 'learning_rate'? (conf/gpu/glob",
        "path: conf/base/globals.yml has no such key. Did you mean 'paths'?",
        "trian: no step of any pipeline reads this parameter. Did you mean 'train'? Set in conf/gpu/parameters.yml.",
        "mines: no step of any pipeline reads this parameter. Did you mean 'mine'? Set in --params.",
        "training: no step of any pipeline reads this parameter. It is a key of globals.yml and can be set there",
    ]
    assert [line for line in wanted if line not in message] == []


def test_unknown_pipeline_is_answered_with_those_that_exist(project):
    message = refused(project, pipeline_names=["retriver_training"])
    assert "Did you mean 'retriever_training'? Pipelines: retriever_training." in message


def test_data_folder_that_is_not_local_is_refused(project):
    write(project / "conf/gpu/globals.yml", "paths: {data: 's3://bucket/data'}")
    assert "comes with the cluster back end" in refused(project, env="gpu")


def test_configuration_that_cannot_be_read_is_named(project):
    write(project / "conf/base/parameters_mine.yml", "mine:\n  depth: ${globals:training.depth}")
    assert "training.depth" in refused(project)
    write(project / "conf/base/parameters_mine.yml", "mine: {depth: [")
    assert "parameters_mine.yml" in refused(project)


def test_inputs_and_targets_are_checked_together_before_the_run(project):
    (project / "data/source/a.txt").unlink()
    (project / "data/source").rmdir()
    (project / "data/trained.json").write_text("mine")
    with pytest.raises(UserError) as caught:
        run(project)
    source, trained = caught.value.message.splitlines()[1:]
    assert source.startswith("  - source: There is no folder") and trained.startswith("  - trained: ")
    assert (project / "data/trained.json").read_text() == "mine" and not (project / "data/mined.json").exists()


def test_part_of_a_pipeline_says_which_artefact_it_lacks(project):
    assert "mined: " in (message := refused(project, node_names=["train"])) and "does not exist yet" in message


def test_missing_environment_is_answered_with_those_that_exist(project):
    message = refused(project, env="gpus")
    assert "no environment 'gpus'" in message and "Did you mean 'gpu'?" in message and "base, gpu" in message
    assert not (project / "conf/gpus").exists()


def test_missing_default_environment_is_made(project):
    assert not (project / "conf/local").exists()
    run(project)
    assert (project / "conf/local").is_dir()


def test_many_faults_are_cut_short(project):
    message = refused(project, params={f"unknown{number}": 1 for number in range(30)})
    assert "30 faults" in message and "… and 10 more" in message and len(message.splitlines()) == 22


HOLDER = """
import sys, time
from pathlib import Path
from ragsmith.store import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_second_run_on_the_same_data_is_refused_until_the_first_is_gone(project):
    lock = project / "data" / ".ragsmith.lock"
    with subprocess.Popen([sys.executable, "-c", HOLDER, lock], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        assert f"process {holder.pid}" in refused(project)
        holder.kill()
    run(project)
    assert (project / "data/trained.json").exists()


def kedro(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kedro", "run", *arguments]
    return subprocess.run(command, cwd=project, capture_output=True, text=True)


def test_command_line_exits_with_1_and_prints_no_traceback_for_a_users_mistake(project):
    done = kedro(project, "--params", "train.epochs=0")
    assert done.returncode == 1 and "Error: 1 fault in the parameters" in done.stderr
    assert "train.epochs: Input should be greater than or equal to 1 (found 0)." in done.stderr
    # Kedro's own report of the same faults is not logged on top.
    assert "Traceback" not in done.stderr + done.stdout and "ERROR" not in done.stdout


def failing(project: Path, statement: str) -> subprocess.CompletedProcess[str]:
    """A run whose first step does this."""
    nodes = project / "src/toyproj/pipelines/retriever_training/nodes.py"
    source = nodes.read_text()
    nodes.write_text(source.replace('    return {"mined"', f'    {statement}\n    return {{"mined"', 1))
    assert nodes.read_text() != source
    return kedro(project)


@pytest.mark.parametrize(
    "statement",
    [
        'raise ValueError("line 3 of the list is empty: fill it")',
        'raise RuntimeError(\n        "line 3 of the list is empty: fill it"\n    ) from KeyError(3)',
    ],
)
def test_what_a_step_finds_wrong_is_said_once_with_the_steps_name_and_no_traceback(project, statement):
    done = failing(project, statement)
    told = done.stderr + done.stdout
    assert done.returncode == 1 and "Error: line 3 of the list is empty: fill it" in done.stderr
    assert told.count("line 3 of the list") == 1 and "mine failed after" in told
    assert "Traceback" not in told and "No nodes ran" not in told


@pytest.mark.parametrize("statement", ['int("three")', "{}[3]", 'raise KeyError("three")', "json.loads('{')"])
def test_what_nobody_foresaw_keeps_its_traceback(project, statement):
    done = failing(project, f"import json; {statement}")
    assert done.returncode == 1 and "Traceback" in done.stderr and "nodes.py" in done.stderr


def test_command_line_recognises_and_kedro_viz_records_the_run(project):
    assert kedro(project).returncode == 0
    events = json.loads((project / ".viz/kedro_pipeline_events.json").read_text())
    assert [event["node"] for event in events if event["event"] == "after_node_run"] == ["mine", "train"]
    first = written(project)
    assert kedro(project).returncode == 0 and written(project) == first
