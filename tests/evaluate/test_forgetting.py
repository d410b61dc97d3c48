import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ragsmith.collect.exchange.beir import read_beir, write_beir
from ragsmith.compute.device import Machine
from ragsmith.evaluate.forgetting import probe, probe_inputs
from ragsmith.evaluate.retrieval import score_run
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.models import resolve_model

# A question shares no word of substance with its answer: that takes a model which knows what words mean.
TOPICS = {
    "kidneys": ("Which organ cleans our blood?", "The kidneys filter waste and produce urine."),
    "volcano": ("Why do mountains spit fire?", "Magma rises through the crust until a volcano throws out lava."),
    "chess": ("How does the horse move in that board game?", "In chess the knight jumps in the shape of an L."),
    "bread": ("What makes a loaf grow before baking?", "Yeast makes dough rise by giving off gas."),
    "moon": ("Who was the earliest astronaut on lunar soil?", "Neil Armstrong stepped on the moon in 1969."),
    "bees": ("Which insects produce sweet syrup?", "Bees turn nectar into honey in the hive."),
    "tide": ("What lifts the ocean twice a day?", "The pull of the moon causes high and low tides."),
    "rust": ("Why does an old car become brown?", "Iron joins with oxygen, which gives rust."),
    "money": ("Where can I borrow cash for a house?", "A bank grants a mortgage against interest."),
    "sleep": ("What helps against lying awake at night?", "Insomnia gets better with regular hours and no coffee."),
}


OTHERS = (
    "bus train clerk ship queue plane crowd parcel tram letter coach team band file cart army class office".split()
)


@pytest.fixture(scope="module")
def base() -> Encoder:
    return Encoder.load(resolve_model("package:all-MiniLM-L6-v2"), Machine("cpu", "fp32"))


@pytest.fixture(scope="module")
def forgetful(own_cache) -> Encoder:
    """An untrained model: it knows nothing of what the base model knows."""
    return Encoder.load(resolve_model("random:bert-2x64"), Machine("cpu", "fp32"))


@pytest.fixture
def folder(tmp_path) -> Path:
    passages = pd.DataFrame(
        [(name, "" if number % 2 else name, text) for number, (name, (_, text)) in enumerate(TOPICS.items())]
        + [(f"other{n}", "", f"Which day does an old {word} move before night?") for n, word in enumerate(OTHERS)],
        columns=["passage_id", "title", "text"],
    )
    queries = pd.DataFrame(
        [(f"q-{name}", question) for name, (question, _) in TOPICS.items()] + [("q-none", "Nobody judged this.")],
        columns=["query_id", "text"],
    )
    qrels = pd.DataFrame([(f"q-{name}", name, 1) for name in TOPICS], columns=["query_id", "passage_id", "grade"])
    write_beir(tmp_path / "general", passages, queries, {"test": qrels})
    return tmp_path / "general"


def test_model_that_forgot_is_shown_to_be_worse(folder, base, forgetful):
    result = probe(folder, "test", {"base": base, "tuned": forgetful}, ["ndcg@10", "mrr@10"], samples=999, seed=0)
    assert (result["probe"], result["queries"], result["passages"]) == ("general", 10, 28)
    assert result["left_out"]["queries_without_judgements"] == 1
    assert result["systems"]["base"]["mrr@10"]["mean"] > 0.8
    assert result["systems"]["tuned"]["mrr@10"]["mean"] < 0.5
    assert [(row["a"], row["b"], row["metric"]) for row in result["comparisons"]] == [
        ("base", "tuned", "ndcg@10"),
        ("base", "tuned", "mrr@10"),
    ]
    for row in result["comparisons"]:
        assert row["difference"] < 0 and row["ci95"][1] < 0 and row["p_holm"] < 0.05
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_figures_are_those_of_cosines_worked_out_by_sentence_transformers(folder, base, forgetful):
    result = probe(folder, "test", {"base": base, "tuned": forgetful}, ["ndcg@3", "recall@5"], samples=100)
    data = read_beir(folder)
    for name, encoder in (("base", base), ("tuned", forgetful)):
        texts = [
            f"{title}\n{text}".strip()
            for title, text in zip(data.passages["title"], data.passages["text"], strict=True)
        ]
        of_passages, of_queries = (
            encoder.model.encode(list(given), normalize_embeddings=True) for given in (texts, data.queries["text"])
        )
        order = np.argsort(-(of_queries @ of_passages.T), axis=1)[:, :5]
        ids = data.passages["passage_id"].to_numpy()
        run = pd.DataFrame(
            [
                (query_id, ids[row], 1.0, rank)
                for query_id, rows in zip(data.queries["query_id"], order, strict=True)
                for rank, row in enumerate(rows, start=1)
            ],
            columns=["query_id", "passage_id", "score", "rank"],
        )
        means = score_run(run, data.qrels, ["ndcg@3", "recall@5"]).groupby("metric")["value"].mean()
        for metric in means.index:
            assert result["systems"][name][metric]["mean"] == pytest.approx(means[metric])


def test_model_that_did_not_change_forgot_nothing(folder, base):
    result = probe(folder, "test", {"base": base, "tuned": base}, ["ndcg@10"], samples=100)
    (row,) = result["comparisons"]
    assert (row["difference"], row["ci95"], row["p"]) == (0.0, [0.0, 0.0], 1.0)


def test_same_seed_gives_the_same_figures_and_a_limit_searches_fewer_passages(folder, forgetful):
    encoders = {"base": forgetful, "tuned": forgetful}
    few = probe(folder, "test", encoders, ["ndcg@10"], samples=100, seed=3, limit=12)
    assert few == probe(folder, "test", encoders, ["ndcg@10"], samples=100, seed=3, limit=12)
    assert few["passages"] == 12 and few["queries"] == 10 and few["left_out"]["passages_not_read"] == 16


def test_what_is_left_out_is_said(folder, forgetful, caplog):
    with (folder / "qrels/test.tsv").open("a") as file:
        file.write("q-moon\tgone\t1\n")
    result = probe(folder, "test", {"base": forgetful, "tuned": forgetful}, ["ndcg@10"], samples=100)
    assert result["left_out"]["judgements_of_unknown_passages"] == 1
    assert caplog.messages == [f"{folder}: 1 judgements of unknown passages are left out"]
    with (folder / "qrels/test.tsv").open("a") as file:
        file.write("q-other\tmoon\t1\n")
    probe(folder, "test", {"base": forgetful, "tuned": forgetful}, ["ndcg@10"], samples=100)
    assert caplog.messages[1] == f"{folder}: 1 judgements of unknown queries are left out"


def test_fewer_passages_than_the_depth_are_all_searched(tmp_path, forgetful):
    passages = pd.DataFrame([("a", "", "one"), ("b", "", "")], columns=["passage_id", "title", "text"])
    queries = pd.DataFrame([("q1", "one?"), ("q2", "two?")], columns=["query_id", "text"])
    qrels = pd.DataFrame([("q1", "a", 1), ("q2", "b", 1)], columns=["query_id", "passage_id", "grade"])
    write_beir(tmp_path / "few", passages, queries, {"test": qrels})
    result = probe(tmp_path / "few", "test", {"a": forgetful, "b": forgetful}, ["recall@100"], samples=100)
    assert result["systems"]["a"]["recall@100"]["mean"] == 1.0


def test_passage_without_title_is_read_as_it_is():
    passages = pd.DataFrame({"title": ["", " ", "Title", "Text", ""], "text": ["abc", "abc", "abc", "Text is", ""]})
    assert probe_inputs(passages) == ["abc", "abc", "Title\nabc", "Text is", ""]


def test_bad_input_is_told_before_anything_is_encoded(folder, forgetful, tmp_path):
    both = {"base": forgetful, "tuned": forgetful}
    with pytest.raises(ValueError, match="told from two encoders"):
        probe(folder, "test", {"base": forgetful})
    with pytest.raises(ValueError, match="Unknown metric 'ndgc@10'"):
        probe(folder, "test", both, ["ndgc@10"])
    with pytest.raises(ValueError, match="No metric to score with"):
        probe(folder, "test", both, [])
    with pytest.raises(ValueError, match=r"dev\.tsv is not there.*Splits: test"):
        probe(folder, "dev", both)
    with pytest.raises(NotADirectoryError):
        probe(tmp_path / "none", "test", both)
    (folder / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\nq-moon\tmoon\t1\n")
    with pytest.raises(ValueError, match="one query of the split 'test' can be scored"):
        probe(folder, "test", both)
