"""What is off by default in evaluation, all of it on at once, in a whole run; and a run beside an earlier version."""

import json
from pathlib import Path

import pytest
import yaml

from ragsmith.retrieve.models import packaged_model


def tiny_classifier(folder: Path, labels: list[str]) -> Path:
    """An untrained classifier of pairs, with these labels."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    tokenizer = AutoTokenizer.from_pretrained(packaged_model("all-MiniLM-L6-v2"))
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=128,
        initializer_range=0.4,
        id2label=dict(enumerate(labels)),
        label2id={label: place for place, label in enumerate(labels)},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.model_max_length = 128
    tokenizer.save_pretrained(folder)
    return folder


def write_probe(folder: Path) -> None:
    """Six passages in BEIR's format, each with a question that repeats its words."""
    subjects = ["kidneys", "volcanoes", "chess", "bread", "tides", "rust"]
    (folder / "qrels").mkdir(parents=True)
    rows = [{"_id": name, "title": name, "text": f"All there is to know about {name}."} for name in subjects]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = [{"_id": f"q-{name}", "text": f"what is known about {name}"} for name in subjects]
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    judged = "".join(f"q-{name}\t{name}\t1\n" for name in subjects)
    (folder / "qrels/test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}")


@pytest.mark.slow
def test_everything_that_is_off_by_default_is_measured_when_it_is_on(finished_copy, tmp_path):
    reranker = tiny_classifier(tmp_path / "reranker", ["score"])
    nli = tiny_classifier(tmp_path / "nli", ["contradiction", "entailment", "neutral"])
    path = finished_copy.folder / "conf/test/globals.yml"
    values = yaml.safe_load(path.read_text("utf-8"))
    values["models"] |= {"reranker": str(reranker), "nli": str(nli)}
    path.write_text(yaml.safe_dump(values), "utf-8")
    write_probe(finished_copy.data / "01_raw/probe")
    (earlier,) = (folder.name for folder in (finished_copy.data / "08_reporting/history").iterdir())
    params = f"evaluation.baseline={earlier},evaluation.rerank_depth=10,evaluation.no_answer_threshold=0.5"
    log = finished_copy.run("--params", params)
    metrics = finished_copy.metrics()

    assert list(metrics["retrieval"]) == ["bm25", "base", "tuned", "hybrid", "reranked"]
    assert {"retrieved", "oracle", "base_retrieved", "reranked"} == set(metrics["conditions"])
    assert metrics["forgetting"]["queries"] == 6 and set(metrics["forgetting"]["systems"]) == {"base", "tuned"}
    assert metrics["faithfulness"]["model"] == "nli" and metrics["judge"] is None
    assert metrics["against"]["a"] == earlier and metrics["against"]["queries"]["both"] == metrics["queries"]["test"]
    counts = metrics["decomposition"]["counts"]
    assert counts["abstained"] > 0 and sum(counts.values()) == metrics["queries"]["test"]
    page = (finished_copy.data / "08_reporting/report.html").read_text("utf-8")
    assert all(f'id="{part}"' in page for part in ("forgetting", "faithfulness", "against")) and earlier in page
    assert (finished_copy.data / "07_model_output/trec/reranked.run").is_file()
    assert finished_copy.warns_of_the_reader_alone(log)
    # The run is a version of its own, and comparing both says what was configured otherwise.
    compared = finished_copy.kedro("compare", earlier, "latest", "--env", "test")
    assert compared.returncode == 0 and "evaluation.rerank_depth: 50 → 10" in compared.stdout, compared.stdout


def test_baseline_that_is_no_version_is_refused_with_those_that_are(finished_copy):
    done = finished_copy.kedro("run", "--env", "test", "--params", "evaluation.baseline=20200101T000000Z-00000000")
    (there,) = (folder.name for folder in (finished_copy.data / "08_reporting/history").iterdir())
    assert done.returncode == 1 and there in done.stdout and "Error: evaluation.baseline: " in done.stdout
    assert "node 1/" not in done.stdout and "recognised" not in done.stdout
