import json
import os
import subprocess
from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize

from ragsmith.learn.adapted import adapted_base
from ragsmith.learn.contrastive import ContrastiveSettings, dev_score
from ragsmith.learn.launch import read_job, read_provenance, train_on_ranks, write_job
from ragsmith.learn.loop import LoopSettings
from ragsmith.learn.lora import LoraSettings, add_adapters, merged_weights
from ragsmith.learn.mine_again import FreshNegatives
from ragsmith.learn.stages import RetrieverData, Stage
from ragsmith.learn.train_retriever import RetrieverSettings, train_retriever
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.models import model_hash
from ragsmith.store import Provenance, recording


@pytest.fixture
def train(tiny_model, machine, queries, mined, passages, dev, tmp_path):
    def run(
        stages=(), mine_again=None, work="work", lora=None, compare_alone=False, base=tiny_model, original=None, **loop
    ):
        schedule = LoopSettings(**{"epochs": 4, "learning_rate": 5e-3, "patience": 99} | loop)
        settings = RetrieverSettings(
            3, 1, 0.0, ContrastiveSettings(), schedule, lora or LoraSettings(), compare_alone=compare_alone
        )
        data = RetrieverData(queries, mined, passages, dev, tuple(stages), mine_again, original)
        return train_retriever(base, data, settings, machine, tmp_path / work)

    return run


FIRST, SECOND = frozenset({"q1", "q2", "q3"}), frozenset({"q4", "q5", "q6"})


def test_stage_begins_where_the_one_before_was_best(train):
    report = train([Stage("first", epochs=8), Stage("second", SECOND, epochs=2)], compare_alone=True).report
    first, second = report["stages"]
    assert [stage["name"] for stage in report["stages"]] == ["first", "second"]
    assert (first["examples"], second["examples"]) == (6, 3) and (first["steps"], second["steps"]) == (16, 2)
    assert second["start"] == first["best"] > first["start"]
    (alone,) = report["alone"]
    assert alone["name"] == "second" and alone["start"] == first["start"]
    base = next(row for row in report["gate"] if row["name"] == "base")
    assert base["ndcg@10"] == first["start"]  # the gate compares with the model before any stage


def test_stage_can_have_its_negatives_mined_by_the_model_so_far(train, mined):
    seen = []

    def mine_again(encoder, query_ids):
        seen.append((encoder.encode(["wait"], "query"), query_ids))
        return mined[mined["query_id"].isin(query_ids)]

    report = train([Stage("one"), Stage("round 2", remine=True)], mine_again).report
    assert [stage["remined"] for stage in report["stages"]] == [False, True]
    ((vector, ids),) = seen
    assert ids == mined["query_id"].tolist()
    untouched = train([Stage("one")], work="other", epochs=1, learning_rate=1e-9).model
    base = Encoder.load(untouched).encode(["wait"], "query")
    assert not np.allclose(vector, base, atol=1e-3)  # the tuned model mines, and not the base


def test_stage_without_queries_or_without_a_miner_is_named(train):
    with pytest.raises(ValueError, match="Stage 'none' has no mined query"):
        train([Stage("none", frozenset({"q9"}))])
    with pytest.raises(ValueError, match="wants fresh negatives"):
        train([Stage("again", remine=True)])


def test_adapters_train_few_weights_and_ship_as_a_plain_model(train, tiny_model, machine, dev):
    result = train(lora=LoraSettings(rank=4, alpha=8), epochs=8, learning_rate=2e-2)
    model = SentenceTransformer(str(result.model), device="cpu")
    names, base = set(model.state_dict()), SentenceTransformer(str(tiny_model), device="cpu").state_dict()
    assert names == set(base)  # nothing of the adapters is left
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, base[name])}
    assert changed and all(name.endswith("weight") and "LayerNorm" not in name for name in changed)
    assert not any("embeddings" in name for name in changed)
    shipped = next(row for row in result.report["gate"] if row["shipped"])
    assert shipped["name"] != "base"
    assert dev_score(Encoder.load(result.model, machine), dev) == pytest.approx(shipped["ndcg@10"], abs=1e-6)


@pytest.mark.parametrize(
    ("pooling", "query_prompt", "passage_prompt", "rank"),
    [
        (None, None, None, 0),
        (None, "find: ", "text: ", 0),
        (None, None, None, 4),
        ("cls", None, None, 0),
        ("lasttoken", "find: ", None, 4),
    ],
    ids=["plain", "prompts", "adapters", "other pooling", "all of them"],
)
def test_plain_sentence_transformers_gives_the_vectors_of_the_shipped_model(
    train, tiny_model, machine, passages, dev, tmp_path, pooling, query_prompt, passage_prompt, rank
):
    base = adapted_base(tiny_model, pooling, query_prompt, passage_prompt, tmp_path)
    result = train(base=base, lora=LoraSettings(rank, alpha=8), epochs=8, learning_rate=2e-2 if rank else 5e-3)
    assert next(row for row in result.report["gate"] if row["shipped"])["name"] != "base"
    encoder, plain = Encoder.load(result.model, machine), SentenceTransformer(str(result.model), device="cpu")
    texts = {"query": [*dev.texts, "a"], "passage": [*passages["text"], "word " * 500]}
    for kind, encode in (("query", plain.encode_query), ("passage", plain.encode_document)):
        ours, theirs = encoder.encode(texts[kind], kind), encode(texts[kind])
        theirs = theirs / np.linalg.norm(theirs, axis=1, keepdims=True)
        assert (ours * theirs).sum(axis=1).min() >= 0.99999
        untrained = Encoder.load(base, machine).encode(texts[kind], kind)
        assert (ours * untrained).sum(axis=1).min() < 0.999  # what was compared has been trained
    assert plain.prompts["query"] == (query_prompt or "")


@pytest.fixture
def with_prompts(tiny_model, tmp_path):
    def save(prompts, default=None):
        folder = tmp_path / "prompts"
        model = SentenceTransformer(str(tiny_model), device="cpu", prompts=prompts, default_prompt_name=default)
        model.save(str(folder), create_model_card=False)
        return folder

    return save


@pytest.mark.parametrize(
    ("prompts", "default"),
    [({"query": "find: ", "passage": "text: "}, None), ({"usual": "read: "}, "usual")],
    ids=["passage", "default"],
)
def test_prompts_that_encode_document_would_not_find_ship_under_the_names_that_it_looks_for(
    train, with_prompts, machine, dev, passages, prompts, default
):
    folder = with_prompts(prompts, default)
    result = train(base=folder)
    encoder, plain = Encoder.load(result.model, machine), SentenceTransformer(str(result.model), device="cpu")
    texts = passages["text"].tolist()
    untold = SentenceTransformer(str(folder), device="cpu")
    assert untold.prompts["document"] == ""
    for kind, encode, prompt in (
        ("query", plain.encode_query, next(iter(prompts.values()))),
        ("passage", plain.encode_document, list(prompts.values())[-1]),
    ):
        assert encoder.prompt(kind) == prompt
        assert (encoder.encode(texts, kind) * encode(texts)).sum(axis=1).min() >= 0.99999


def test_an_empty_prompt_goes_before_the_folders_default_one(with_prompts, tmp_path):
    folder = with_prompts({"usual": "read: "}, "usual")
    encoder = Encoder.load(adapted_base(folder, None, "", None, tmp_path))
    assert (encoder.prompt("query"), encoder.prompt("passage")) == ("", "read: ")


def test_untrained_adapters_change_no_vector_and_trained_ones_merge_exactly(tiny_model, machine):
    texts = ["how to wait", "a b c"]
    encoder = Encoder.load(tiny_model, machine)
    before = encoder.encode(texts, "query")
    add_adapters(encoder, LoraSettings(rank=2), seed=0)
    assert encoder.towers["query"].backbone is not None
    np.testing.assert_allclose(encoder.encode(texts, "query"), before, atol=1e-6)
    with torch.no_grad():
        for name, parameter in encoder.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
    trained = encoder.encode(texts, "query")
    assert not np.allclose(trained, before, atol=1e-3)
    plain = Encoder.load(tiny_model, machine)
    plain.model.load_state_dict(merged_weights(encoder))
    np.testing.assert_allclose(plain.encode(texts, "query"), trained, atol=1e-5)


def test_checkpoints_of_adapters_hold_the_adapters_alone(train, tmp_path):
    train(lora=LoraSettings(rank=4, alpha=8), epochs=8, learning_rate=2e-2)
    folder = tmp_path / "work/fit-1"
    (best,) = folder.glob("best-*.safetensors")
    for path in (best, folder / "checkpoint/model.safetensors"):
        names = load_file(path)
        assert names and all("lora_" in name or name.endswith("position_ids") for name in names)


def test_adapters_leave_what_stands_behind_the_transformer_as_it_was(train, tiny_model, tmp_path):
    transformer, pooling, _ = SentenceTransformer(str(tiny_model), device="cpu")
    width = pooling.embedding_dimension
    folder = tmp_path / "dense"
    SentenceTransformer(modules=[transformer, pooling, Dense(width, 24), Normalize()], device="cpu").save(
        str(folder), create_model_card=False
    )
    result = train(base=folder, lora=LoraSettings(rank=4, alpha=8), epochs=8, learning_rate=2e-2)
    assert next(row for row in result.report["gate"] if row["shipped"])["name"] != "base"
    before, after = (SentenceTransformer(str(one), device="cpu").state_dict() for one in (folder, result.model))
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert changed and not any(name.startswith("2.") for name in changed)


@pytest.mark.parametrize("similarity", ["dot", None])
def test_model_without_unit_length_ships_as_one_with_it_that_compares_by_cosine(
    train, tiny_model, machine, dev, tmp_path, similarity, caplog
):
    transformer, pooling, _ = SentenceTransformer(str(tiny_model), device="cpu")
    base = SentenceTransformer(modules=[transformer, pooling], device="cpu", similarity_fn_name=similarity)
    folder = tmp_path / f"{similarity}-base"
    base.save(str(folder), create_model_card=False)
    result = train(base=folder, epochs=8)
    assert next(row for row in result.report["gate"] if row["shipped"])["name"] != "base"
    assert [f"{folder.name} was made to be compared by dot" in text for text in caplog.messages].count(True) == (
        similarity == "dot"
    )
    plain = SentenceTransformer(str(result.model), device="cpu")
    ours = Encoder.load(result.model, machine).encode(dev.texts, "query")
    np.testing.assert_allclose(plain.encode_query(dev.texts), ours, atol=1e-5)  # as they come
    assert not np.allclose(np.linalg.norm(base.encode(dev.texts), axis=1), 1, atol=0.01)
    assert plain.similarity_fn_name == "cosine"
    untouched = train(base=folder, epochs=1, learning_rate=1e-9, work="untouched").model
    assert [type(module).__name__ for module in SentenceTransformer(str(untouched), device="cpu")].count(
        "Normalize"
    ) == 1


def test_card_and_report_say_the_rate_and_the_epochs_of_each_stage(train):
    stages = [Stage("first", FIRST, learning_rate=1e-3, epochs=2), Stage("second", SECOND)]
    result = train(stages, learning_rate=4e-3, epochs=3)
    told = [(stage["learning_rate"], stage["epochs"]) for stage in result.report["stages"]]
    assert told == [(1e-3, 2), (4e-3, 3)]
    card = (result.model / "README.md").read_text("utf-8")
    assert "| first | 3 | infonce | 0.001 | 2 | 2 |" in card and "| second | 3 | infonce | 0.004 | 3 | 3 |" in card
    settings = card.split("Settings: ")[1]
    assert "Trained by ragsmith." in card and "learning_rate" not in settings and "epochs" not in settings
    log = [json.loads(line) for line in result.log.read_text().splitlines()]
    peaks = [
        max(line["learning_rate"] for line in log if line["stage"] == name and "learning_rate" in line)
        for name in ("first", "second")
    ]
    assert peaks[0] <= 1e-3 < peaks[1]


def test_card_says_what_was_compared_and_how_it_was_trained(train, tiny_model):
    result = train()
    card = (result.model / "README.md").read_text("utf-8")
    assert card.startswith("---\nlibrary_name: sentence-transformers")
    for row in result.report["gate"]:
        assert f"| {row['name']} | {row['ndcg@10']:.4f} |" in card
    assert (
        f"Tuned from `{tiny_model.name}`" in card
        and "base_model" not in card
        and "seed 0" in card
        and "| infonce | 0.005 | 4 |" in card
    )
    assert SentenceTransformer(str(result.model), device="cpu").encode(["text"]).shape == (1, 64)
    for name, digest in result.report["data"]["hashes"].items():
        assert f"{name} `{digest}`" in card


def test_data_are_known_again_by_their_hashes(queries, mined, passages, dev):
    one = RetrieverData(queries, mined, passages, dev).summary()
    assert (one["queries"], one["passages"]) == (6, 6)
    mined.at[0, "negative_ids"] = ["p4", "p5"]
    other = RetrieverData(queries, mined, passages, dev).summary()["hashes"]
    assert {name: other[name] == digest for name, digest in one["hashes"].items()} == {
        "queries": True,
        "mined": False,
        "passages": True,
    }


def test_changed_pooling_ships_only_where_the_model_as_it_was_is_beaten(train, tiny_model, machine, dev, tmp_path):
    base = adapted_base(tiny_model, "cls", None, None, tmp_path / "adapted")
    original = dev_score(Encoder.load(tiny_model, machine), dev)
    # Hardly trained: what has another pooling is worth what the base with it is.
    found = train(base=base, original=tiny_model, learning_rate=1e-9, epochs=1)
    scores = {row["name"]: row["ndcg@10"] for row in found.report["gate"]}
    (shipped,) = [row["name"] for row in found.report["gate"] if row["shipped"]]
    assert scores["original"] == original > scores["base"] and shipped == "original"
    texts = ["how to tree", "a list"]
    expected = Encoder.load(tiny_model, machine).encode(texts, "query")
    np.testing.assert_allclose(Encoder.load(found.model, machine).encode(texts, "query"), expected, atol=1e-6)


def test_other_pooling_and_prompts_are_a_base_of_their_own(tiny_model, machine, tmp_path):
    assert adapted_base(tiny_model, None, None, None, tmp_path) == tiny_model
    folder = adapted_base(tiny_model, "cls", "find: ", None, tmp_path)
    encoder = Encoder.load(folder, machine)
    assert encoder.prompt("query") == "find: " and encoder.prompt("passage") == ""
    plain = SentenceTransformer(str(tiny_model), device="cpu")
    hidden = plain.encode(["find: this"], output_value="token_embeddings")[0][0].numpy()
    vector = encoder.encode(["this"], "query")[0]
    np.testing.assert_allclose(vector, hidden / np.linalg.norm(hidden), atol=1e-5)
    written = (folder / "adapted_from.txt").stat().st_mtime_ns
    assert adapted_base(tiny_model, "cls", "find: ", None, tmp_path) == folder
    assert (folder / "adapted_from.txt").stat().st_mtime_ns == written
    other = adapted_base(tiny_model, None, None, "text: ", tmp_path)
    assert Encoder.load(other, machine).prompt("passage") == "text: " and model_hash(str(other))


def test_job_on_disk_is_the_job_that_was_given(tiny_model, machine, queries, mined, passages, dev, tmp_path):
    settings = RetrieverSettings(
        3, 1, 0.5, ContrastiveSettings(matryoshka=(8, 16)), LoopSettings(1, 1e-3), LoraSettings(2, 4, ("query",))
    )
    stages = (Stage("first", FIRST), Stage("rest", epochs=3))
    wider = replace(dev, passage_ids=[*dev.passage_ids, "p9"], passages=[*dev.passages, "another"])
    data = RetrieverData(queries, mined, passages, dev, stages, original=tiny_model, judge=wider)
    write_job(tmp_path, tiny_model, data, settings, machine)
    assert read_provenance(tmp_path) is None
    with recording(provenance := Provenance("train_retriever", "abc", {"mined": "def"})):
        write_job(tmp_path, tiny_model, data, settings, machine)
    base, read, typed, found = read_job(tmp_path)
    assert read_provenance(tmp_path) == provenance and read.judge == wider
    assert read.mine_again is None
    assert (base, typed, found) == (tiny_model.resolve(), settings, machine)
    assert read.stages == data.stages and read.dev == dev and read.original == tiny_model.resolve()
    pd.testing.assert_frame_equal(read.queries, queries)
    assert read.mined["negative_ids"].map(list).tolist() == mined["negative_ids"].tolist()


@pytest.mark.slow
def test_two_processes_train_the_model_that_one_trains(
    tiny_model, machine, queries, mined, passages, dev, train, losses_of, tmp_path
):
    settings = RetrieverSettings(3, 1, 0.0, ContrastiveSettings(), LoopSettings(4, 5e-3, patience=99))
    data = RetrieverData(queries, mined, passages, dev)
    both = train_on_ranks(tiny_model, data, settings, machine, tmp_path / "both", 2)
    alone = train()
    assert both.report["steps"] == alone.report["steps"] == 8
    assert both.report["scores"].keys() == alone.report["scores"].keys()
    assert both.report["scores"][0] == pytest.approx(alone.report["scores"][0])
    losses = [losses_of(run) for run in (both, alone)]
    np.testing.assert_allclose(losses[0][:3], losses[1][:3], rtol=1e-3)
    assert (both.model / "model.safetensors").is_file()


def test_miner_on_disk_is_the_miner_that_was_given(tiny_model, fresh, tmp_path):
    given = pd.DataFrame({"query_id": ["q1"], "passage_id": ["p3"], "score": [0.5]})
    one = fresh(given=given, reranker=tiny_model, batch_tokens=64)
    one.write(tmp_path / "job")
    read = FreshNegatives.read(tmp_path / "job")
    tables = ("queries", "passages", "given")
    for name in tables:
        pd.testing.assert_frame_equal(getattr(read, name), getattr(one, name))
    plain = {field.name for field in fields(FreshNegatives)} - {*tables}
    assert {name: getattr(read, name) for name in plain} == {name: getattr(one, name) for name in plain}
    fresh().write(tmp_path / "job")
    read = FreshNegatives.read(tmp_path / "job")  # what the folder held before does not come back
    assert read.given is None and read.reranker is None


@pytest.mark.slow
def test_two_processes_train_on_what_the_first_has_mined_again(
    tiny_model, machine, queries, mined, passages, dev, train, fresh, losses_of, tmp_path
):
    stages = (Stage("one", epochs=2), Stage("round 2", remine=True, epochs=2))
    settings = RetrieverSettings(3, 1, 0.0, ContrastiveSettings(), LoopSettings(4, 5e-3, patience=99))
    data = RetrieverData(queries, mined, passages, dev, stages, fresh({"p1", "p4"}, 1, "both"))
    both = train_on_ranks(tiny_model, data, settings, machine, tmp_path / "both", 2)
    alone = train(stages, fresh({"p1", "p4"}, 1, "alone"), work="alone")
    assert [stage["remined"] for stage in both.report["stages"]] == [False, True]
    found = pd.read_parquet(tmp_path / "both" / "mined.parquet")
    assert {name for ids in found["negative_ids"] for name in ids} == {"p1", "p4"}  # of the pool, not those of `mined`
    losses = [losses_of(run) for run in (both, alone)]
    assert len(losses[0]) == len(losses[1]) == 8  # two stages of four steps
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-2)


@pytest.mark.parametrize(("set_by_user", "expected"), [(None, "4"), ("3", "3")])
def test_processes_share_the_threads_that_one_would_have(
    tiny_model, machine, queries, mined, passages, dev, tmp_path, monkeypatch, set_by_user, expected
):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if set_by_user:
        monkeypatch.setenv("OMP_NUM_THREADS", set_by_user)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 9)
    seen = {}

    def run(command, env, **options):
        seen.update(env)
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(subprocess, "run", run)
    data = RetrieverData(queries, mined, passages, dev)
    settings = RetrieverSettings(3, 1, 0.0, ContrastiveSettings(), LoopSettings(1, 1e-3))
    with pytest.raises(RuntimeError, match="on 2 processes failed"):
        train_on_ranks(tiny_model, data, settings, machine, tmp_path, 2)
    assert seen["OMP_NUM_THREADS"] == expected and seen["PATH"] == os.environ["PATH"]


def test_several_processes_cannot_be_handed_a_function(tiny_model, machine, queries, mined, passages, dev, tmp_path):
    data = RetrieverData(queries, mined, passages, dev, (Stage("again", remine=True),), lambda *_: mined)
    settings = RetrieverSettings(3, 1, 0.0, ContrastiveSettings(), LoopSettings(1, 1e-3))
    with pytest.raises(ValueError, match="FreshNegatives alone"):
        train_on_ranks(tiny_model, data, settings, machine, tmp_path, 2)
