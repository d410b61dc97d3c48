"""`kedro run` trains a retriever from nothing but files of records, whatever format they are in."""

import json

import pandas as pd
import pytest
import yaml

pytestmark = pytest.mark.slow
PIPELINES = "data_collection,query_generation,negative_mining,retriever_training"
ANIMALS = (
    "ant bear cat deer eel fox goat hare ibis jay kiwi lynx mole newt owl pig quail rat seal toad urial viper wolf "
    "yak zebra crab duck emu frog gull"
).split()
PLACES = "tree cave sea hill swamp barn lake field forest desert".split()


@pytest.fixture
def records(project):
    """Three files of three formats about thirty animals; sample and folder give nothing."""
    folder = project.data / "01_raw/records"
    folder.mkdir(parents=True)
    facts = [
        f"The {animal} sleeps {12 + place} hours in its {PLACES[place % 10]}." for place, animal in enumerate(ANIMALS)
    ]
    rows = ["QuestionID\tQuestion\tDocumentID\tDocumentTitle\tSentenceID\tSentence\tLabel"]
    for place, animal in enumerate(ANIMALS[:20]):
        for number, sentence in enumerate((f'Nobody fears the " {animal} .', facts[place])):
            question = f"where does the {animal} sleep"
            rows.append(f"Q{place}\t{question}\tD{place}\t{animal}\tD{place}-{number}\t{sentence}\t{number}")
    (folder / "zoo-train.tsv").write_text("\r\n".join(rows), newline="")
    articles = [
        {
            "title": animal,
            "paragraphs": [
                {
                    "context": facts[20 + place],
                    "qas": [{"id": animal, "question": f"Where does a {animal} rest?", "answers": []}],
                }
            ],
        }
        for place, animal in enumerate(ANIMALS[20:25])
    ]
    # This one is about an article that is trained on: dev has it, and the training question is left out.
    articles[0]["paragraphs"].append({"context": facts[0], "qas": []})
    (folder / "zoo-dev.json").write_text(json.dumps({"data": articles}))
    lines = [
        {"query": f"home of the {animal}?", "pos": [facts[25 + place]], "neg": [facts[0]], "neg_scores": [0.25]}
        for place, animal in enumerate(ANIMALS[25:])
    ]
    (folder / "zoo-test.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "NOTES.md").write_text("# not a record")
    return folder


def table(project, name: str) -> pd.DataFrame:
    return pd.read_parquet(project.data / name)


def test_a_retriever_is_trained_steered_and_gated_from_records_alone(project, records) -> None:
    before = {path.name: path.read_bytes() for path in records.iterdir()}
    log = project.run(
        "--pipelines",
        PIPELINES,
        "--params",
        "data_collection.sample.enabled=false,data_collection.folder.enabled=false,retriever_training.batch_size=4",
    )
    assert "WARNING" not in log and {path.name: path.read_bytes() for path in records.iterdir()} == before
    queries, passages = table(project, "04_feature/queries.parquet"), table(project, "03_primary/passages.parquet")
    counts = queries.groupby(["kind", "split"]).size().to_dict()
    assert counts[("gold", "dev")] == 5 and counts[("gold", "test")] == 5 and counts[("example", "train")] == 19
    documents = table(project, "02_intermediate/documents.parquet").set_index("document_id")
    assert set(documents["source"]) == {"records"}
    for row in passages.itertuples(index=False):
        assert documents.at[row.document_id, "text"][row.start : row.end] == row.text
    # Every sentence is one passage, also the short ones, and what two files share is kept once.
    assert len(passages) == 50 and 'Nobody fears the " ant .' in set(passages["text"])
    negatives = table(project, "04_feature/given_negatives.parquet")
    assert set(negatives["query_id"]) <= set(queries.loc[queries["split"] == "train", "query_id"]) and len(negatives)
    report = json.loads((project.data / "08_reporting/collection.json").read_text())["records"]
    assert [file["format"] for file in report["files"]] == ["squad", "flagembedding", "wikiqa"]
    assert [row["uri"] for row in report["rejected"]] == ["NOTES.md"]
    assert (project.data / "06_models/retriever/model.safetensors").is_file()


def test_a_fault_in_a_record_ends_the_run_with_file_and_line(project, records) -> None:
    (records / "bad.jsonl").write_text('{"query": "q", "pos": ["x"]}\n{"query": "q", "pos": []}\n')
    done = project.kedro("run", "--env", "test", "--pipelines", "data_collection")
    assert done.returncode != 0 and "bad.jsonl:2: needs at least one text in 'pos'" in done.stdout
    assert "Traceback" not in done.stdout and done.stdout.count("bad.jsonl:2") == 1


def test_data_sets_are_trained_one_after_the_other_and_each_is_compared_with_itself_alone(project, records) -> None:
    lines = [
        {"query": f"What bed has the {animal}?", "pos": [f"A bed of {place} is what the {animal} has."]}
        for animal, place in zip(ANIMALS[:10], PLACES, strict=True)
    ]
    (records / "farm-train.jsonl").write_text("\n".join(map(json.dumps, lines)))
    given = {
        "data_collection": {"sample": {"enabled": False}, "folder": {"enabled": False}},
        "retriever_training": {
            "stages": [{"queries": "zoo-train"}, {"queries": "farm-train", "epochs": 2}],
            "compare_alone": True,
            "batch_size": 4,
        },
    }
    config = project.folder / "chain.yml"
    config.write_text(yaml.safe_dump({"run": {"pipelines": PIPELINES, "params": given}}))
    project.run("--config", "chain.yml")
    queries = table(project, "04_feature/queries.parquet")
    train = queries[queries["kind"] == "example"]
    counts = train["file"].value_counts()
    assert counts.to_dict() == {"zoo-train": 19, "farm-train": 10}
    assert set(queries.loc[queries["kind"] == "gold", "file"]) == {"zoo-dev", "zoo-test"}
    report = json.loads((project.data / "08_reporting/retriever.json").read_text())
    mined = set(table(project, "05_model_input/mined.parquet")["query_id"])
    expected = [[name, int(train.loc[train["file"] == name, "query_id"].isin(mined).sum())] for name in counts.index]
    assert [[stage["name"], stage["examples"]] for stage in report["stages"]] == expected
    assert [(one["name"], one["examples"]) for one in report["alone"]] == [tuple(expected[1])]
    assert report["stages"][1]["start"] == pytest.approx(report["stages"][0]["best"])


def test_retriever_alone_is_trained_on_wikiqa_with_figures_from_before_and_after(project, records) -> None:
    for other in (records / "zoo-dev.json", records / "zoo-test.jsonl"):
        other.unlink()  # WikiQA alone: dev and test are taken out of its questions, by document
    project.run(
        "--pipelines",
        f"{PIPELINES},rag_training,evaluation",
        "--params",
        "data_collection.sample.enabled=false,data_collection.folder.enabled=false,"
        "data_collection.split.documents_dev=0.2,data_collection.split.documents_test=0.2,"
        "retriever_training.batch_size=4,rag_training.batch_size=4,rag_training.mode=retriever_only",
    )
    report = json.loads((project.data / "08_reporting/reader.json").read_text())
    assert [row["name"] for row in report["gate"]] == ["before", "trained"] and report["steps"] > 0
    assert all(0 <= row["recall"] <= 1 and {"same_passages", "prior_entropy"} <= row.keys() for row in report["gate"])
    log = pd.read_parquet(project.data / "08_reporting/reader_log.parquet")
    assert "reader_loss" not in log and log.loc[log["kind"] == "train", "contrastive_loss"].notna().all()
    meta = json.loads((project.data / "06_models/rag_index/index.json").read_text())
    assert meta["kind"] == "flat"
    found = json.loads((project.data / "08_reporting/metrics.json").read_text())["retrieval"]
    assert {"base", "tuned"} <= found.keys()
