"""What a person gets wrong ends in one message that says what and where, before any step runs."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml
from static_models import static_folder

from ragsmith.retrieve.models import resolve_model


def override(project, file: str, text: str) -> None:
    """Lay keys over those of a YAML file of the test environment."""
    path = project.folder / "conf/test" / file
    values = yaml.safe_load(path.read_text("utf-8")) if path.exists() else {}
    for key, value in yaml.safe_load(text).items():
        both = isinstance(value, dict) and isinstance(values.get(key), dict)
        values[key] = {**values[key], **value} if both else value
    path.write_text(yaml.safe_dump(values), "utf-8")


def refused(project, *arguments: str) -> str:
    """The message with which `kedro run` refuses; nothing may have been run."""
    done = project.kedro("run", *(arguments or ("--env", "test")))
    assert done.returncode == 1, done.stdout
    assert done.stdout.startswith("Error: ") and "Traceback" not in done.stdout and "node 1/" not in done.stdout
    written = [path for path in (project.folder / "data").rglob("*") if path.is_file()]
    assert [path.name for path in written if path.name != ".ragsmith.lock"] == []
    return done.stdout


@pytest.fixture
def model(tmp_path) -> Path:
    """A model of the test's own to be damaged."""
    return Path(shutil.copytree(resolve_model("random:bert-2x64"), tmp_path / "model"))


def test_faults_of_every_kind_stand_in_one_message_with_the_file_to_change(project):
    override(
        project,
        "parameters.yml",
        """
        retriever_training: {epochs: many, batch_size: 1, learing_rate: 0.1}
        rag_trainin: {epochs: 1}
        """,
    )
    override(project, "globals.yml", "{raeder: {epochs: 1}, reader: {batch_size: 0}, models: {encoder: 'package:L7'}}")
    message = refused(project, "--env", "test", "--params", "evaluation.depth=1")
    first, *faults = message.splitlines()
    assert first == "Error: 8 faults in the configuration; nothing was run:"
    wanted = {
        "raeder": ["no such key", "'reader'", "conf/test/globals.yml"],
        "rag_trainin": ["no step of any pipeline reads", "'rag_training'", "Set in conf/test/parameters.yml."],
        "evaluation.depth": ["greater than or equal to 10 (found 1)", "--params."],
        "rag_training.batch_size": ["greater than or equal to 1 (found 0)", "(conf/test/globals.yml)."],
        "retriever_training.epochs": ["valid integer", "(found 'many')", "conf/test/parameters.yml."],
        "retriever_training.batch_size": ["greater than or equal to 2 (found 1)", "conf/test/parameters.yml."],
        "retriever_training.learing_rate": ["Did you mean 'learning_rate'? Set in conf/test/parameters.yml."],
        "base_encoder": ["all-MiniLM-L6-v2", "${globals:models.encoder} (conf/test/globals.yml)."],
    }
    by_key = {fault.removeprefix("  - ").partition(":")[0]: fault for fault in faults}
    assert list(by_key) == list(wanted)
    assert [part for key, parts in wanted.items() for part in parts if part not in by_key[key]] == []


def test_faults_in_values_and_models_alone_stand_in_one_message_too(project):
    override(project, "globals.yml", "{reader: {batch_size: 0}, models: {encoder: 'package:L7'}}")
    message = refused(project)
    assert message.startswith("Error: 2 faults in the parameters; nothing was run:")
    assert "rag_training.batch_size: " in message and "base_encoder: No packaged model is called 'L7'." in message


def test_missing_environment_is_answered_with_those_that_exist(project):
    message = refused(project, "--env", "tset")
    assert "There is no environment 'tset'" in message and "Did you mean 'test'?" in message
    assert all(name in message for name in ("base", "cluster", "gpu"))
    assert not (project.folder / "conf/tset").exists()


def test_question_to_a_missing_environment_is_answered_likewise(project):
    done = project.kedro("ask", "--env", "tset", "How?")
    assert done.returncode == 1 and done.stdout.startswith("Error: There is no environment 'tset'")


def test_cluster_environment_says_in_one_line_that_no_cluster_is_there(project):
    override(project, "../cluster/globals.yml", "models: {encoder: 'random:bert-2x64', reader: 'random:bert-2x64'}")
    message = refused(project, "--env", "cluster")
    lacks = "there is no cluster at auto (RAY_ADDRESS)" if find_spec("ray") else "needs Ray. Run: pip install"
    assert len(message.splitlines()) == 1 and lacks in message
    assert "retriever_training: compute.backend is ray, " in message


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_device_that_is_not_there_is_said_before_any_step(project):
    override(project, "globals.yml", "compute: {device: cuda}")
    message = refused(project)
    assert len(message.splitlines()) == 1 and "torch sees no CUDA device" in message


def test_missing_model_directory_is_named_with_the_file_to_change(project):
    override(project, "globals.yml", "models: {reader: /nowhere/model}")
    message = refused(project)
    assert "base_reader: No model at '/nowhere/model'." in message and "(conf/test/globals.yml)" in message


def test_truncated_model_file_is_named(project, model):
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    override(project, "globals.yml", f"models: {{encoder: '{model}'}}")
    message = refused(project)
    assert f"base_encoder: {weights} is truncated or altered" in message


def test_altered_model_of_ours_is_refused_by_name(project, model):
    weights = model / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    override(project, "globals.yml", f"models: {{encoder: '{model}'}}")
    assert f"base_encoder: {weights} is missing or altered" in refused(project)


def test_model_that_is_no_transformer_is_refused_for_each_training_of_ours_before_any_step(project, tmp_path):
    folder = static_folder(tmp_path / "static")
    override(project, "globals.yml", f"models: {{encoder: '{folder}'}}")
    _, message = refused(project).splitlines()
    assert f"base_encoder: {folder} begins with a StaticEmbedding, which is no transformer" in message
    assert "retriever_training.backend to sentence_transformers" in message and "(conf/test/globals.yml)" in message
    override(
        project,
        "parameters.yml",
        "{retriever_training: {backend: sentence_transformers}, rag_training: {mode: e2e}}",
    )
    _, message = refused(project).splitlines()
    assert "rag_training.mode to fine_tune" in message and "retriever_training.backend" not in message


def test_model_in_a_format_that_can_run_code_is_refused(project, model):
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    override(project, "globals.yml", f"models: {{encoder: '{model}'}}")
    assert "pytorch_model.bin, a format that can run code" in refused(project)


@pytest.mark.parametrize("file", ["parameters.yml", "globals.yml", "catalog.yml"])
def test_yaml_that_cannot_be_read_is_named(project, file):
    (project.folder / "conf/test" / file).write_text("evaluation: [", "utf-8")
    message = refused(project)
    assert f"conf/test/{file}" in message and len(message.splitlines()) == 1


def test_unknown_pipeline_is_answered_with_those_that_exist(project):
    message = refused(project, "--env", "test", "--pipelines", "rag_trainig")
    assert "Did you mean 'rag_training'?" in message and "end_to_end" in message


def test_pipeline_whose_inputs_were_never_made_says_which_are_missing(project):
    message = refused(project, "--env", "test", "--pipelines", "negative_mining")
    assert all(f"  - {name}: " in message for name in ("queries", "qrels", "passages", "base_index"))
    assert "does not exist yet" in message


def test_file_of_the_users_is_never_overwritten(project):
    mine = project.data / "08_reporting/metrics.json"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine", "utf-8")
    done = project.kedro("run", "--env", "test")
    assert done.returncode == 1 and "metrics.json is in the way" in done.stdout and "node 1/" not in done.stdout
    assert mine.read_text("utf-8") == "mine"


def test_key_in_the_place_of_its_variables_name_is_not_repeated(project):
    endpoint = "evaluation.judge.endpoint"
    params = f"{endpoint}.model=m,{endpoint}.api_key_env=sk-very-secret"
    message = refused(project, "--env", "test", "--params", params)
    assert f"{endpoint}.api_key_env: " in message and "never the key" in message and "sk-very-secret" not in message
