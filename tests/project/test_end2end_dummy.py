"""The sample of rag-end2end-retriever, two texts and eight questions: its files and one command train end to end."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from ragsmith.retrieve.index import index_model
from ragsmith.retrieve.models import model_hash

pytestmark = pytest.mark.slow
DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "rag_end2end_dummy"
TABLE = "dummy-kb/my_knowledge_dataset.csv"
QUESTIONS = "dummy-train-data"
# Eight questions: by an eighth each, dev and test would be one question each, and it may be one that nothing answers.
PARAMS = ",".join(
    [
        "data_collection.sample.enabled=false,data_collection.folder.enabled=false",
        "data_collection.split.documents_dev=0.25,data_collection.split.documents_test=0.25",
        "retriever_training.batch_size=2,rag_training.batch_size=2,rag_training.mode=end2end",
        # More than one step, however few questions the split and their answers leave: each searches the index that the
        # step before it made, and not one made for an evaluation.
        "rag_training.epochs=2,rag_training.evaluations=1,rag_training.refresh.every=1,rag_training.refresh.budget=1",
    ]
)
FACTS = {
    "Nerin": {
        "Who keeps the lamp of Nerin ?": "the old ferryman",
        "Where does Nerin lie ?": "below the salt cliffs",
        "When was Nerin built ?": "after the second flood",
        "What is sold in Nerin ?": "blue glass and rope",
    },
    '"Tovasch"': {
        "Who invented Tovasch ?": "two bored millers",
        "How many stones has Tovasch ?": "thirty-one stones",
        "Where is Tovasch played ?": "on a round table",
        "What ends a game of Tovasch ?": "an empty ring",
    },
}


def write_sample(folder: Path) -> None:
    """Made-up files in the form of the sample: as many rows, words and lines, and the same questions in each split."""
    rows, asked = [], []
    for title, facts in FACTS.items():
        sentences = [f"{title} {question.split()[0].lower()} : {answer} ." for question, answer in facts.items()]
        filled = [f"{one} " + "It is told in many ways , and nobody minds . " * 6 for one in sentences]
        rows.append(f"{title}\t{title} {''.join(filled).strip()}")
        asked += facts.items()
    (folder / TABLE).parent.mkdir(parents=True)
    (folder / TABLE).write_text("\n".join(rows), "utf-8")
    (folder / QUESTIONS).mkdir()
    for split, times in {"train": 6, "val": 1, "test": 1}.items():
        for part, suffix in enumerate(("source", "target")):
            lines = [pair[part] for pair in asked * times]
            (folder / QUESTIONS / f"{split}.{suffix}").write_text("\n".join(lines), "utf-8")


@pytest.fixture(params=["made_up", "as_published"])
def sample(request, tmp_path) -> Path:
    if request.param == "made_up":
        write_sample(tmp_path)
        return tmp_path
    if not (DATA / TABLE).is_file():
        pytest.skip(f"rag-end2end-retriever's sample is not at {DATA}")
    return DATA


def test_made_up_sample_has_the_sizes_of_the_published_one(tmp_path):
    write_sample(tmp_path)
    rows = [line.split("\t") for line in (tmp_path / TABLE).read_text("utf-8").split("\n")]
    assert len(rows) == 2 and all(250 <= len(text.split(" ")) <= 350 for _, text in rows)
    for split, count in {"train": 48, "val": 8, "test": 8}.items():
        for suffix in ("source", "target"):
            lines = (tmp_path / QUESTIONS / f"{split}.{suffix}").read_text("utf-8").split("\n")
            assert len(lines) == count and len(set(lines)) == 8


def test_sample_trains_end_to_end_in_under_three_minutes_and_the_index_is_the_shipped_retrievers(
    project, sample, spent
):
    records = project.data / "01_raw/records"
    shutil.copytree(sample / QUESTIONS, records)
    shutil.copy(sample / TABLE, records)
    # Its dev and test ask what its training asks: that is said, and how to go on.
    done = project.kedro("run", "--env", "test", "--params", PARAMS)
    assert done.returncode != 0 and "All 48 training questions of the records are asked in their files" in done.stdout
    for again in [*records.glob("val.*"), *records.glob("test.*")]:
        again.unlink()
    begun = spent()
    log = project.run("--params", PARAMS)
    assert spent() - begun < 180
    assert "index: version 1, of step 1: training waited" in log
    steps = pd.read_parquet(project.data / "08_reporting/reader_log.parquet")
    trained = steps[steps["kind"] == "train"]
    assert len(trained) >= 2 and trained["index_version"].tolist() == list(range(len(trained)))
    assert set(trained["index_age"]) == {0}
    report = json.loads((project.data / "08_reporting/reader.json").read_text("utf-8"))
    assert report["index"]["refreshes"] >= 2 and report["index"]["failed"] == report["index"]["put_off"] == 0
    models = project.data / "06_models"
    assert index_model(models / "rag_index") == model_hash(str(models / "rag_retriever"))
    assert (models / "bundle/retriever/model.safetensors").is_file() and project.metrics()["queries"]["test"] == 2
