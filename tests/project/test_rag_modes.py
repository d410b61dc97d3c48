"""`rag_training` in each mode on a finished project, and what evaluation and serving make of it."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from ragsmith.compute.device import Machine
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.index import index_model
from ragsmith.retrieve.models import model_hash
from ragsmith.retrieve.route_files import passage_model
from ragsmith.serve.bundle import read_manifest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "conf/recipes").glob("*.yml"))
# What each does first, after what it finds done, and the report that it leaves.
FIRST = {
    "end2end": ("train_reader", "reader.json"),
    "from_scratch": ("train_reader", "reader.json"),
    "retriever_mxbai": ("train_retriever", "retriever.json"),
    "retriever_bge": ("mine_negatives", "retriever.json"),
    "hn_mine": ("mine_negatives", "mining.json"),
}
MODELS = "06_models"
UPSTREAM = ["06_models/retriever", "06_models/index", "06_models/base_index"]


def train(project, *parameters: str) -> str:
    """Run rag_training by itself with these parameters."""
    return project.run(
        "--pipelines", "rag_training", "--params", ",".join(f"rag_training.{one}" for one in parameters)
    )


def weights(project, name: str) -> bytes:
    return (project.data / MODELS / name / "model.safetensors").read_bytes()


def ran(log: str) -> list[str]:
    return re.findall(r"node \d+/\d+ (\w+) …", log)


@pytest.mark.parametrize(
    ("parameters", "trained"),
    [
        (("mode=e2e",), {"rag_retriever", "reader"}),
        (("mode=from_scratch", "random_weights=true"), {"rag_retriever", "reader"}),
        (("mode=retriever_only",), {"rag_retriever"}),
    ],
)
def test_mode_trains_what_it_says_and_leaves_an_index_of_its_retriever(finished_copy, parameters, trained):
    before = finished_copy.artefacts()
    log = train(finished_copy, *parameters, "refresh.every=3", "refresh.budget=9")
    assert set(ran(log)) == {"train_reader", "retrieve_dev", "plot_reader_training"}
    after, models = finished_copy.artefacts(), finished_copy.data / MODELS
    assert {name: after[name] for name in UPSTREAM} == {name: before[name] for name in UPSTREAM}
    assert index_model(models / "rag_index") == model_hash(str(models / "rag_retriever"))
    report = json.loads((finished_copy.data / "08_reporting/reader.json").read_text())
    before_training, after_training = report["gate"]
    assert before_training["shipped"] != after_training["shipped"]
    # Nothing but the trained weights is new, and an untrained model may well get worse: then the gate keeps the old.
    kept = before_training["shipped"] and "mode=from_scratch" not in parameters
    assert (weights(finished_copy, "rag_retriever") == weights(finished_copy, "retriever")) == kept
    steps = pd.read_parquet(finished_copy.data / "08_reporting/reader_log.parquet")
    steps = steps[steps["kind"] == "train"]
    assert steps["index_version"].max() >= 2 and steps["index_age"].max() <= 3 and steps["loss"].notna().all()
    assert report["index"]["failed"] == 0 and report["index"]["refreshes"] >= 2
    if "reader" in trained:
        assert steps["reader_loss"].notna().all()
    else:
        assert "reader_loss" not in steps


def test_fine_tuning_leaves_the_retriever_and_its_index_as_they_are(finished):
    hashes = finished.artefacts()
    assert hashes["06_models/rag_retriever"] == hashes["06_models/retriever"]
    assert hashes["06_models/rag_index"] == hashes["06_models/index"]


def test_what_joint_training_left_is_evaluated_and_served(finished, finished_copy):
    # Lasting, as in a person's configuration; from the base encoder, so that it is surely another retriever.
    parameters = finished_copy.folder / "conf/test/parameters_rag_training.yml"
    content = (finished_copy.folder / "conf/base/parameters_rag_training.yml").read_text("utf-8")
    parameters.write_text(content.replace("mode: fine_tune", "mode: from_scratch"), "utf-8")
    log = finished_copy.run()
    assert {"train_reader", "retrieve_runs", "read_answers", "make_bundle"} <= set(ran(log))
    shipped = finished_copy.data / MODELS / "bundle"
    for part, name in (("retriever", "rag_retriever"), ("reader", "reader")):
        assert (shipped / part / "model.safetensors").read_bytes() == weights(finished_copy, name)
    assert index_model(finished_copy.data / MODELS / "rag_index") == model_hash(
        str(finished_copy.data / MODELS / "rag_retriever")
    )
    assert read_manifest(shipped)["metrics"]["retrieval"] == finished_copy.metrics()["retrieval"]
    before, after = finished.metrics()["retrieval"], finished_copy.metrics()["retrieval"]
    assert after["bm25"] == before["bm25"] and after["contrastive"] == before["tuned"] != after["tuned"]
    answered = finished_copy.kedro("ask", "--env", "test", "--json", "delete a directory tree")
    assert answered.returncode == 0 and json.loads(answered.stdout)["text"]


def test_encoder_of_questions_is_trained_evaluated_and_served_with_the_index_that_was_there(finished, finished_copy):
    parameters = finished_copy.folder / "conf/test/parameters_rag_training.yml"
    content = (finished_copy.folder / "conf/base/parameters_rag_training.yml").read_text("utf-8")
    # At a small rate: in so few steps an untrained reader would lead a larger one astray, and the gate would tell.
    content = content.replace("encoders: auto", "encoders: questions").replace(
        "retriever_rate: 0.2", "retriever_rate: 0.01"
    )
    parameters.write_text(content, "utf-8")
    log = finished_copy.run()
    assert {"train_reader", "retrieve_runs", "read_answers", "make_bundle"} <= set(ran(log))
    models, hashes = finished_copy.data / MODELS, finished_copy.artefacts()
    report = json.loads((finished_copy.data / "08_reporting/reader.json").read_text())
    assert report["encoders"] == "questions" and report["gate"][1]["shipped"] and not report["index"]["refreshes"]
    assert hashes["06_models/rag_index"] == hashes["06_models/index"]
    assert index_model(models / "rag_index") == passage_model(models / "rag_retriever")
    own, given = (Encoder.load(models / name, Machine("cpu", "fp32")) for name in ("rag_retriever", "retriever"))
    texts = ["delete a directory tree"]
    assert (own.encode(texts, "passage") == given.encode(texts, "passage")).all()
    assert not (own.encode(texts, "query") == given.encode(texts, "query")).all()
    before, after = finished.metrics()["retrieval"], finished_copy.metrics()["retrieval"]
    assert after["contrastive"] == before["tuned"] != after["tuned"]
    assert (models / "bundle/retriever/router_config.json").exists()
    answered = finished_copy.kedro("ask", "--env", "test", "--json", "delete a directory tree")
    assert answered.returncode == 0 and json.loads(answered.stdout)["text"]


def test_reader_that_writes_is_trained_from_an_encoder_decoder(finished_copy):
    settings = finished_copy.folder / "conf/test/globals.yml"
    content = settings.read_text("utf-8")
    assert "  reader: random:bert-2x64" in content
    settings.write_text(content.replace("  reader: random:bert-2x64", "  reader: encoder_decoder:random:bert-2x64"))
    log = train(finished_copy, "reader=rag_token", "mode=end2end", "max_questions=8", "label_smoothing=0.1")
    assert "train_reader" in ran(log)
    saved = json.loads((finished_copy.data / MODELS / "reader/reader.json").read_text())
    assert saved["kind"] == "rag_token" and saved["prior_weight"] == 20.0
    assert json.loads((finished_copy.data / "08_reporting/reader.json").read_text())["objective"] == "marginal"


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        (
            "rag_training.reader=fid",
            "reader is fid, which is made from an encoder-decoder (encoder_decoder:package:all-MiniLM-L6-v2), and "
            "models.reader is an encoder. Name an encoder-decoder under models.reader in globals.yml, or set "
            "rag_training.reader to extractive.",
        ),
        (
            "rag_training.mode=end_to_end",
            "rag_training.mode: Input should be 'fine_tune', 'end2end', 'from_scratch' or 'retriever_only' (found",
        ),
        ("rag_training.mode=retriever_only,rag_training.contrastive_weight=0", "Nothing teaches the retriever"),
        ("rag_training.raeder=fid", "Did you mean 'reader'?"),
    ],
)
def test_what_cannot_be_trained_is_said_before_anything_runs(project, parameters, said):
    done = project.kedro("run", "--env", "test", "--pipelines", "rag_training", "--params", parameters)
    assert done.returncode == 1 and "Traceback" not in done.stdout
    assert said in done.stdout and "nothing was run" in done.stdout, done.stdout
    assert not (project.data / MODELS).exists()


def name_models(project, lines: dict[str, str]) -> None:
    """Give models the names in the test environment's globals.yml."""
    path = project.folder / "conf/test/globals.yml"
    values = yaml.safe_load(path.read_text("utf-8"))
    path.write_text(yaml.safe_dump({**values, "models": {**values["models"], **lines}}), "utf-8")


def models_in(recipe: Path) -> list[dict[str, str]]:
    """The blocks `models:` that the comments of a recipe give, in their order."""
    comments = [line.removeprefix("#") for line in recipe.read_text("utf-8").splitlines() if line.startswith("#")]
    blocks = re.findall(r"^   models:\n((?:     .+\n?)+)", "\n".join(comments), re.MULTILINE)
    return [yaml.safe_load(block) for block in blocks]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipe_runs_unchanged_with_small_models_of_the_kinds_that_it_names(finished_copy, recipe):
    for named in models_in(recipe)[-1:]:  # those that need no network: the same kinds, smaller
        small = {role: spec.replace("package:all-MiniLM-L6-v2", "random:bert-2x64") for role, spec in named.items()}
        assert all("random:" in spec for spec in small.values())
        name_models(finished_copy, small)
    log = finished_copy.run("--config", f"conf/recipes/{recipe.name}")
    first, file = FIRST[recipe.stem]
    assert ran(log)[0] == first  # what comes before is recognised
    report = json.loads((finished_copy.data / "08_reporting" / file).read_text())
    if file == "mining.json":
        assert report["mined"] > 0 and set(report["dropped"]) >= {"skipped_rank"}
        return
    names = {"reader.json": {"before", "trained"}, "retriever.json": {"base", "last", "average"}}[file]
    assert {row["name"] for row in report["gate"]} >= names and report["steps"] > 0
    if recipe.stem == "retriever_bge":
        prompts = json.loads((finished_copy.data / MODELS / "retriever/config_sentence_transformers.json").read_text())
        assert prompts["prompts"]["query"].startswith("Represent this sentence")


def test_from_scratch_recipe_names_bert_and_bart_and_says_when_they_cannot_be_had(project):
    online, offline = models_in(ROOT / "conf/recipes/from_scratch.yml")
    assert online == {"encoder": "google-bert/bert-base-uncased", "reader": "facebook/bart-base"}
    assert offline == {
        "encoder": "package:all-MiniLM-L6-v2",
        "reader": "encoder_decoder:package:all-MiniLM-L6-v2",
    }
    name_models(project, online)
    done = project.kedro(
        "run", "--env", "test", "--config", "conf/recipes/from_scratch.yml",
        HF_HUB_OFFLINE="1", HF_HUB_CACHE=str(project.folder / "empty"),
    )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stdout and "nothing was run" in done.stdout, done.stdout
    for role, name in online.items():
        assert f"base_{role}: '{name}' is not in the local cache and the hub cannot be reached" in done.stdout
    assert not (project.data / MODELS).exists()


def test_from_scratch_recipe_trains_on_four_fifths_of_the_documents_whatever_the_parameters_say(project):
    records = project.data / "01_raw/records"
    records.mkdir(parents=True)
    rows = [{"query": f"Who keeps bridge {n}?", "pos": [f"Bridge {n} is kept by miller {n}."]} for n in range(40)]
    (records / "bridges.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    parameters = project.folder / "conf/base/parameters_data_collection.yml"
    content = parameters.read_text("utf-8")
    for old, new in (
        ("documents_dev: 0.1", "documents_dev: 0.3"),
        ("documents_test: 0.1", "documents_test: 0.3"),
        ("enabled: true # set to false", "enabled: false # set to false"),
    ):
        assert old in content
        content = content.replace(old, new)
    parameters.write_text(content, "utf-8")
    project.run("--config", "conf/recipes/from_scratch.yml", "--pipelines", "data_collection")
    splits = pd.read_parquet(project.data / "03_primary/splits.parquet")
    assert splits["document_id"].is_unique
    assert splits["split"].value_counts().to_dict() == {"train": 32, "dev": 4, "test": 4}
