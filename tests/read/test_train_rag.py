"""Trainings from the questions to the saved folders."""

import logging
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from static_models import static_folder

from ragsmith.learn.checkpoints import weights
from ragsmith.learn.loop import LoopSettings
from ragsmith.learn.lora import LoraSettings
from ragsmith.read.background import BackgroundRefresh
from ragsmith.read.causal import CausalReader
from ragsmith.read.extractive import ExtractiveReader, ReaderSettings
from ragsmith.read.generative import GenerativeSettings
from ragsmith.read.knowledge_base import KnowledgeBase
from ragsmith.read.live_index import RefreshSettings
from ragsmith.read.new_reader import new_reader
from ragsmith.read.rag_settings import RagSettings
from ragsmith.read.rag_task import RagTask
from ragsmith.read.readers import load_reader
from ragsmith.read.reading import ReadingPassage
from ragsmith.read.seq2seq import Seq2SeqReader
from ragsmith.read.train_rag import RagPlan, choose_retriever, state_hash, train_rag
from ragsmith.retrieve.build import build_index
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.hnsw import HnswSettings
from ragsmith.retrieve.index import DenseIndex, index_model
from ragsmith.retrieve.models import check_model_folder, model_hash, resolve_model
from ragsmith.retrieve.passage_text import passage_inputs
from ragsmith.retrieve.route_files import passage_model
from ragsmith.retrieve.search import Searcher

SETTINGS = RagSettings(batch_size=4, passages=3, contrastive_weight=1.0, retriever_rate=1.0)
LOOP = LoopSettings(4, 3e-3, evaluations=1, patience=99)
PLAN = RagPlan(SETTINGS, RefreshSettings(every=4, overlap=0.0, budget=1.0), LOOP, (0.0, 5.0))
VALUES = {"max_tokens": 48, "max_answer_tokens": 6}


@pytest.fixture
def train(town_base, town_questions, tiny_model, machine, tmp_path):
    """Train on the towns; what shall differ from SETTINGS is given by name."""

    def run(name="work", reader=None, plan=PLAN, base=town_base, **settings):
        reader = reader or ExtractiveReader.load(tiny_model, ReaderSettings(48, 6), machine)
        plan = replace(plan, settings=replace(plan.settings, **settings))
        return train_rag(reader, base, town_questions, town_questions, plan, machine, tmp_path / name)

    return run


def answers(run, base, questions, machine, reader, k=3, mode="dense") -> list[str | None]:
    """What the saved folders answer, as a person would use them."""
    searcher = Searcher(Encoder.load(run.retriever, machine), DenseIndex.load(run.index), base.passages)
    texts = dict(zip(base.passages["passage_id"], passage_inputs(base.passages), strict=True))
    found = searcher.run([q.query_id for q in questions], [q.text for q in questions], k, mode)
    read = [
        [ReadingPassage(row.passage_id, texts[row.passage_id], row.cosine) for row in rows.itertuples()]
        for _, rows in found.groupby("query_id", sort=False)
    ]
    return [span and span.text for span in reader.answer_all([q.text for q in questions], read)]


def test_tiny_knowledge_base_is_learnt_end_to_end_and_the_folders_answer_as_the_training_did(
    train, town_base, town_questions, machine
):
    run = train(plan=replace(PLAN, loop=replace(LOOP, epochs=10)))
    scores = run.report["scores"]
    assert scores[0] < 0.3 and run.report["best_step"] > 0
    assert max(scores.values()) >= 0.9
    reader = load_reader(run.reader, machine)
    assert reader.settings.prior_weight == run.report["prior_weight"]
    found = answers(run, town_base, town_questions, machine, reader)
    em = np.mean([answer == q.answers[0] for answer, q in zip(found, town_questions, strict=True)])
    # Of the prior's weights tried on dev the best is kept: never worse than the one it was trained with.
    assert em == max(row["em"] for row in run.report["prior"]) >= max(scores.values())


def test_index_that_is_left_belongs_to_the_retriever_that_is_left(train, town_base, machine):
    run = train()
    assert index_model(run.index) == model_hash(str(run.retriever)) != model_hash(str(town_base.retriever))
    index = DenseIndex.load(run.index)
    texts = passage_inputs(town_base.passages.set_index("passage_id").loc[index.passage_ids].reset_index())
    assert np.array_equal(index.vectors, Encoder.load(run.retriever, machine).encode(texts, "passage"))
    assert not np.allclose(index.vectors, DenseIndex.load(town_base.index).vectors, atol=1e-3)
    assert run.report["index"]["refreshes"] >= 3 and run.report["index"]["failed"] == 0


def test_index_that_is_left_is_of_the_kind_that_was_given(train, town_base, tmp_path):
    graph = HnswSettings(M=4, efSearch=5)
    start = replace(DenseIndex.load(town_base.index), hnsw=graph, saved=None)
    (tmp_path / "graph").mkdir()
    start.save(tmp_path / "graph", index_model(town_base.index))
    run = train(base=replace(town_base, index=tmp_path / "graph"))
    assert run.index != tmp_path / "graph" and DenseIndex.load(run.index).hnsw == graph
    assert (run.index / "hnsw_neighbors.npy").is_file()


def test_retriever_that_is_not_trained_stays_what_it_was(train, town_base):
    before = model_hash(str(town_base.retriever))
    run = train(encoders="none", objective="none")
    assert (run.retriever, run.index) == (town_base.retriever, town_base.index)
    assert model_hash(str(run.retriever)) == before and run.report["index"]["version"] == 0


def test_reader_alone_is_trained_on_what_a_model_finds_that_is_no_transformer_and_that_is_not_trained(
    train, town_base, machine, tmp_path
):
    folder = static_folder(tmp_path / "static")
    index = build_index(folder, town_base.passages, machine, 4096, tmp_path / "built", "")
    base = KnowledgeBase(folder, index, town_base.passages)
    run = train("alone", base=base, encoders="none", objective="none", contrastive_weight=0.0)
    assert run.retriever == folder and run.report["steps"] > 0
    for encoders in ("questions", "both"):
        with pytest.raises(ValueError, match=r"static: .* a StaticEmbedding.*rag_training\.mode to fine_tune"):
            train(encoders, base=base, encoders=encoders)
        assert not (tmp_path / encoders).exists()


def test_questions_get_an_encoder_of_their_own_and_the_index_stays_and_belongs_to_what_ships(
    train, town_base, town_questions, machine
):
    run = train(encoders="questions")
    assert run.report["gate"][1]["shipped"] and run.report["encoders"] == "questions"
    assert run.index == town_base.index and run.report["index"]["version"] == 0
    assert index_model(run.index) == passage_model(run.retriever) == model_hash(str(town_base.retriever))
    assert model_hash(str(run.retriever)) != model_hash(str(town_base.retriever))
    check_model_folder(run.retriever)
    before, after = (Encoder.load(folder, machine) for folder in (town_base.retriever, run.retriever))
    texts = passage_inputs(town_base.passages)
    np.testing.assert_array_equal(after.encode(texts, "passage"), before.encode(texts, "passage"))
    asked = [question.text for question in town_questions]
    assert not np.allclose(after.encode(asked, "query"), before.encode(asked, "query"), atol=1e-3)
    # What the saved folders find is what the training found at the end.
    found = Searcher(after, DenseIndex.load(run.index), town_base.passages)
    ids = [question.query_id for question in town_questions]
    best = found.run(ids, asked, 3, "dense").groupby("query_id")["passage_id"].agg(set)
    recall = np.mean([bool(best[question.query_id] & question.right) for question in town_questions])
    assert recall == run.report["gate"][1]["recall"] > run.report["gate"][0]["recall"]


@pytest.mark.parametrize("encoders", ["questions", "both"])
def test_what_was_trained_apart_is_trained_on_with_the_index_that_came_with_it(train, town_base, encoders):
    first = train("first", encoders="questions")
    base = KnowledgeBase(first.retriever, first.index, town_base.passages)
    # A little only: the gate would keep one that got worse.
    run = train(
        "second", plan=replace(PLAN, loop=replace(LOOP, epochs=1, learning_rate=1e-5)), base=base, encoders=encoders
    )
    assert run.report["gate"][1]["shipped"] and index_model(run.index) == passage_model(run.retriever)
    assert (run.index == first.index) == (encoders == "questions")
    assert model_hash(str(run.retriever)) != model_hash(str(first.retriever))


def test_index_is_refused_when_the_encoder_of_passages_is_another_one(train, town_base):
    first = train("first", encoders="questions")
    weights = next(first.retriever.glob("document_0_*/model.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-4] + b"\1\2\3\4")
    with pytest.raises(ValueError, match="was made by another model than"):
        train("second", base=KnowledgeBase(first.retriever, first.index, town_base.passages), encoders="questions")


def test_retriever_of_which_no_encoder_got_better_ships_as_it_was(train, town_base):
    plan = replace(PLAN, loop=replace(LOOP, epochs=1, learning_rate=0.0))
    run = train(plan=plan, encoders="questions", train_reader=False, objective="none")
    assert (run.retriever, run.index) == (town_base.retriever, town_base.index)


def test_interrupted_training_of_the_encoder_of_questions_ends_as_an_undisturbed_one(train, monkeypatch):
    plan, encoders = replace(PLAN, loop=replace(LOOP, epochs=3, checkpoint_seconds=0.0)), "questions"
    whole = train("whole", plan=plan, encoders=encoders)
    loss, calls = RagTask.loss, []

    def dying(self, epoch, number):
        calls.append(number)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return loss(self, epoch, number)

    monkeypatch.setattr(RagTask, "loss", dying)
    with pytest.raises(KeyboardInterrupt):
        train("killed", plan=plan, encoders=encoders)
    again = train("killed", plan=plan, encoders=encoders)
    files = [sorted(run.retriever.rglob("*.safetensors")) for run in (whole, again)]
    assert files[0] and [f.read_bytes() for f in files[0]] == [f.read_bytes() for f in files[1]]
    assert (whole.reader / "model.safetensors").read_bytes() == (again.reader / "model.safetensors").read_bytes()
    assert whole.log.read_text() == again.log.read_text() and len(calls) > 6


def test_retriever_alone_learns_to_find_and_leaves_the_reader_as_it_is(train, tiny_model, machine):
    reader = ExtractiveReader.load(tiny_model, ReaderSettings(48, 6), machine)
    before = {name: value.clone() for name, value in reader.model.state_dict().items()}
    run = train(reader=reader, train_reader=False, objective="none", passages=1)
    log = pd.read_json(run.log, lines=True)
    assert "recall" in log and "em" not in log
    assert max(run.report["scores"].values()) > run.report["scores"][0] + 0.3
    after = ExtractiveReader.load(run.reader, machine=machine).model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_same_call_after_the_end_trains_nothing_and_leaves_the_same(train):
    first = train()
    content = {name: (first.reader / name).read_bytes() for name in ("model.safetensors", "reader.json")}
    lines, report = first.log.read_text(), first.report
    again = train()
    assert again.log.read_text() == lines and again.report == report
    assert {name: (again.reader / name).read_bytes() for name in content} == content


def test_best_weights_of_dev_are_those_that_are_left(train, machine, town_base, town_questions):
    """A rate that ruins the reader after it had learnt: the report's best step is not the last."""
    plan = replace(PLAN, loop=replace(LOOP, epochs=8, learning_rate=0.03, schedule="constant", clip=100.0))
    run = train(plan=plan, encoders="none", objective="none")
    scores = run.report["scores"]
    best = scores[run.report["best_step"]]
    weight = 0.0  # as it was read in training: nothing is trained that the prior is made of
    assert best == max(scores.values())
    assert next(row["em"] for row in run.report["prior"] if row["prior_weight"] == weight) == best


def test_training_that_dev_cannot_tell_from_its_beginning_ships_its_end_and_says_so(train, monkeypatch, caplog):
    monkeypatch.setattr(RagTask, "evaluate", lambda self: (0.0, {}))
    with caplog.at_level("INFO"):
        run = train(encoders="none", objective="none")
    last = max(run.report["scores"])
    assert run.report["best_step"] == last > 0
    assert f"at step {last}" in caplog.text and "What ships has a dev em of 0" in caplog.text


def test_reader_alone_learns_what_is_asked_and_its_folder_answers_alike(train, town_base, town_questions, machine):
    plan = replace(PLAN, loop=replace(LOOP, epochs=12), prior_weights=(7.0, 3.0))
    run = train(plan=plan, encoders="none", objective="none", search="bm25")
    assert run.report["scores"][0] < 0.3 and max(run.report["scores"].values()) >= 0.7
    assert [row["prior_weight"] for row in run.report["prior"]] == [7.0, 3.0]
    reader = load_reader(run.reader, machine)
    found = answers(run, town_base, town_questions, machine, reader, mode="bm25")
    em = np.mean([answer == q.answers[0] for answer, q in zip(found, town_questions, strict=True)])
    assert em == max(row["em"] for row in run.report["prior"]) and run.report["steps"] == 36
    assert run.report["examples"] == run.report["dev_questions"] == 12


def test_reader_that_could_read_already_is_kept_when_training_makes_it_worse(train, machine):
    able = train(plan=replace(PLAN, loop=replace(LOOP, epochs=12)), encoders="none", objective="none")
    ruinous = replace(PLAN, loop=replace(LOOP, epochs=1, learning_rate=1.0, warmup=0.0), prior_weights=())
    reader = ExtractiveReader.load(able.reader, machine=machine)
    worse = train("worse", reader, ruinous, encoders="none", objective="none")
    first, last = worse.report["scores"].values()
    assert last < first
    assert (worse.reader / "model.safetensors").read_bytes() == (able.reader / "model.safetensors").read_bytes()


@pytest.mark.parametrize(("ruined", "ships"), [("trained", False), ("before", True), ("neither", False)])
def test_trained_retriever_ships_unless_the_one_before_does_better_with_the_same_reader(
    live_index, town_questions, tiny_model, machine, caplog, ruined, ships
):
    live, reader = live_index(), ExtractiveReader.load(tiny_model, ReaderSettings(48, 6), machine)
    settings = replace(SETTINGS, train_reader=False, objective="none", passages=1)
    task = RagTask(reader, live, town_questions, town_questions, settings, "base")
    task.module.eval()
    retriever = task.module["retriever"]
    if ruined == "before":  # every text gets the same vector
        good = weights(retriever)
        live.start = DenseIndex(live.passage_ids, np.zeros_like(live.vectors))
        untouched = {name: torch.zeros_like(value) for name, value in weights(task.module).items()}
        retriever.load_state_dict(good)
    else:
        untouched = weights(task.module)
    if ruined == "trained":
        with torch.no_grad():
            for parameter in retriever.parameters():
                parameter.zero_()
    expected = untouched if not ships else {f"retriever.{name}": v for name, v in weights(retriever).items()}
    rows = choose_retriever(task, untouched)
    assert [row["name"] for row in rows] == ["before", "trained"] and [r["shipped"] for r in rows] == [
        not ships,
        ships,
    ]
    better = rows[1]["recall"] - rows[0]["recall"]
    assert {"trained": better < 0, "before": better > 0, "neither": better == 0}[ruined]
    assert all(torch.equal(value, expected[f"retriever.{name}"]) for name, value in weights(retriever).items())
    assert np.allclose(live.vectors, live.encoder.encode(live.texts, "passage"), atol=1e-6)
    assert ("The retriever stays as it was" in caplog.text) == (ruined == "trained")


def test_training_that_fails_leaves_no_process_behind(train, monkeypatch):
    started = []
    start = BackgroundRefresh._start
    monkeypatch.setattr(BackgroundRefresh, "_start", lambda self: (start(self), started.append(self.worker.process)))
    refresh = RefreshSettings(every=1, overlap=0.0, budget=99.0, background=True)
    ruinous = replace(LOOP, learning_rate=1e30, warmup=0.0, clip=1e9)
    with pytest.raises(FloatingPointError, match="Lower learning_rate"):
        train(plan=replace(PLAN, refresh=refresh, loop=ruinous))
    assert len(started) == 1 and started[0].poll() is not None


@pytest.fixture
def crashing(monkeypatch):
    """Every refresh in the background is killed as soon as it has begun; how many have."""
    started, start = [], BackgroundRefresh._start

    def dying(self):
        start(self)
        self.worker.process.kill()
        started.append(self.step)

    monkeypatch.setattr(BackgroundRefresh, "_start", dying)
    return started


CRASHING = RefreshSettings(every=1, overlap=0.0, budget=99.0, background=True, lag=1)


def test_training_whose_refreshes_all_crash_ends_well_with_a_fresh_index_and_counts_them(
    train, crashing, town_base, machine, caplog
):
    run = train(plan=replace(PLAN, refresh=CRASHING))
    assert run.report["gate"][1]["shipped"] and run.index != town_base.index
    assert index_model(run.index) == model_hash(str(run.retriever)) != model_hash(str(town_base.retriever))
    index = DenseIndex.load(run.index)
    texts = passage_inputs(town_base.passages.set_index("passage_id").loc[index.passage_ids].reset_index())
    assert np.array_equal(index.vectors, Encoder.load(run.retriever, machine).encode(texts, "passage"))
    # Three steps an epoch: one begins in the second, fails in the third, and the next one ends with the evaluation.
    counted = caplog.text.count("failed: exit status -9")
    assert run.report["index"]["failed"] == counted == 4 and len(crashing) == 8
    assert run.report["index"]["refreshes"] == 4  # those that evaluation has made
    log = pd.read_json(run.log, lines=True)
    assert log["refreshes_failed"].max() == 4
    load_reader(run.reader, machine)


@pytest.mark.parametrize("label", ["", "index"], ids=["for the last evaluation", "for what ships"])
def test_training_whose_last_index_cannot_be_made_either_ends_with_an_error_about_it_and_leaves_nothing(
    train, crashing, monkeypatch, tmp_path, caplog, label
):
    encode = Encoder.encode

    def failing(self, texts, kind, said=""):
        if kind == "passage" and said == label and len(crashing) >= 2:
            raise RuntimeError("the card has fallen off the bus")
        return encode(self, texts, kind, said)

    monkeypatch.setattr(Encoder, "encode", failing)
    with pytest.raises(RuntimeError, match="fallen off the bus") as raised:
        train(plan=replace(PLAN, refresh=CRASHING, loop=replace(LOOP, epochs=1)))
    assert "The index of the 12 passages could not be made anew" in " ".join(raised.value.__notes__)
    assert "The refresh that began at step 1 failed: exit status -9" in caplog.text
    assert [path for name in ("reader", "retriever", "index") for path in (tmp_path / "work" / name).rglob("*")] == []


# --- readers that write ---


def test_written_answers_of_the_saved_reader_are_those_of_the_trained_one(train, town_base, town_questions, machine):
    base = resolve_model("encoder_decoder:random:bert-2x64")
    reader = new_reader(base, "rag_token", VALUES, LoraSettings(rank=0), machine)
    run = train(reader=reader, plan=replace(PLAN, loop=replace(LOOP, epochs=1)))
    settings = GenerativeSettings("rag_token", 48, 6, 1 / SETTINGS.temperature)
    loaded = load_reader(run.reader, machine)
    assert loaded.settings == replace(reader.settings, prior_weight=1 / SETTINGS.temperature) == settings
    found = [answers(run, town_base, town_questions, machine, one) for one in (reader, loaded)]
    assert found[0] == found[1]
    moved = loaded.model.state_dict()
    first = Seq2SeqReader.load(base, settings, machine).model.state_dict()
    assert any(not torch.equal(value, moved[name]) for name, value in first.items())


def values_of(reader):
    """Copies of a reader's parameters, by name."""
    return {name: value.detach().clone() for name, value in reader.model.named_parameters()}


def values_before_merging(reader):
    """Filled with the values that the parameters have when the adapters are merged into them."""
    kept = {}

    def keep(merge=reader.model.merge_and_unload):
        kept.update(values_of(reader))
        return merge()

    reader.model.merge_and_unload = keep
    return kept


def test_adapters_alone_are_trained_and_are_merged_into_what_is_saved(train, machine):
    base = resolve_model("encoder_decoder:random:bert-2x64")
    reader = new_reader(base, "rag_sequence", VALUES, LoraSettings(rank=2, alpha=4), machine)
    names = [name for name, parameter in reader.model.named_parameters() if parameter.requires_grad]
    assert names and all("lora_" in name for name in names)
    before, trained = values_of(reader), values_before_merging(reader)
    run = train(reader=reader, encoders="none", objective="none", plan=replace(PLAN, loop=replace(LOOP, epochs=1)))
    moved = {name for name, value in before.items() if not torch.equal(value, trained[name])}
    assert moved and all("lora_" in name for name in moved)
    assert not list(run.reader.glob("adapter*"))
    loaded = Seq2SeqReader.load(run.reader, GenerativeSettings("rag_sequence", 48, 6), machine)
    first = Seq2SeqReader.load(base, loaded.settings, machine).model.state_dict()
    # What the adapters learned is in the weights: W + alpha / rank · B A.
    stem = next(name for name in moved if "lora_B" in name).removesuffix(".lora_B.default.weight")
    a, b = (trained[f"{stem}.lora_{side}.default.weight"] for side in "AB")
    key = f"{stem.removeprefix('base_model.model.')}.weight"
    torch.testing.assert_close(loaded.model.state_dict()[key], first[key] + 2.0 * b @ a)


def test_adapters_of_a_causal_reader_are_trained_with_its_retriever_and_the_saved_reader_answers_alike(
    train, town_base, town_questions, machine, generators
):
    values = {"max_tokens": 200, "max_answer_tokens": 6}
    reader = new_reader(generators("gpt2"), "causal", values, LoraSettings(rank=2), machine)
    before, trained = values_of(reader), values_before_merging(reader)
    plan = replace(PLAN, loop=replace(LOOP, epochs=2))
    run = train(reader=reader, plan=plan, objective="emdr2", passages=2)
    adapters = {name for name in before if "lora_" in name}
    moved = {name for name, value in before.items() if not torch.equal(value, trained[name])}
    assert moved == adapters and adapters != set(before) and len(trained) == len(before)
    log = pd.read_json(run.log, lines=True)
    assert log.loc[log["kind"] == "train", ["reader_loss", "retriever_loss"]].notna().all(axis=None)
    loaded = load_reader(run.reader, machine)
    assert type(loaded) is CausalReader and not list(run.reader.glob("adapter*"))
    found = [answers(run, town_base, town_questions, machine, one, k=2) for one in (reader, loaded)]
    assert found[0] == found[1] and any(found[0])
    first = CausalReader.load(generators("gpt2"), loaded.settings, machine).model.state_dict()
    assert any(not torch.equal(value, first[name]) for name, value in loaded.model.state_dict().items())


def test_training_of_other_adapters_in_the_folder_of_a_finished_one_begins_anew(train, machine):
    base = resolve_model("encoder_decoder:random:bert-2x64")

    def log(name, alpha):
        reader = new_reader(base, "rag_token", VALUES, LoraSettings(rank=2, alpha=alpha), machine)
        plan = replace(PLAN, loop=replace(LOOP, epochs=1, learning_rate=0.1))
        return train(name, reader, plan, encoders="none", objective="none").log.read_text()

    first = log("work", 4)
    assert log("work", 64) == log("alone", 64) != first


def test_identity_of_a_reader_is_that_of_all_that_decides_its_answers_and_not_of_its_place(machine, tmp_path):
    base = resolve_model("encoder_decoder:random:bert-2x64")

    def reader(folder=base, alpha=4, **values):
        return new_reader(folder, "rag_token", VALUES | values, LoraSettings(rank=2, alpha=alpha), machine)

    cased, dropping, repeating = reader(), reader(), reader()
    cased.tokenizer.backend_tokenizer.normalizer.lowercase = False
    dropping.model.config.decoder.hidden_dropout_prob = 0.7
    repeating.model.generation_config.no_repeat_ngram_size = 2
    same = state_hash(reader())
    others = [reader(alpha=64), reader(max_answer_tokens=7), cased, dropping, repeating]
    assert len({same, *map(state_hash, others)}) == 6
    shutil.copytree(base, tmp_path / "copy")
    asked = reader(tmp_path / "copy")
    asked.tokenizer("a longer text", max_length=4, truncation=True)  # it remembers the limit of its last call
    assert state_hash(asked) == same


# --- what is refused ---


def test_index_of_another_model_is_refused_before_anything_is_trained(train, town_base, machine, tmp_path):
    other = resolve_model("random:bert-1x32")
    index = build_index(other, town_base.passages, machine, 512, tmp_path, "")
    with pytest.raises(ValueError, match=r"was made by another model than .*Build it again: kedro run"):
        train(base=KnowledgeBase(town_base.retriever, index, town_base.passages))
    assert not (tmp_path / "work").exists()


def test_one_of_several_processes_is_refused_before_anything_is_written(train, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")  # as torchrun tells the processes that it starts
    with pytest.raises(ValueError, match=r"Training a reader is work for one process.* one of 2.*torchrun"):
        train("several")
    assert not (tmp_path / "several").exists()
    monkeypatch.setenv("WORLD_SIZE", "1")
    with pytest.raises(ValueError, match="Lower batch_size"):  # it went on as far as the loop
        train("alone", batch_size=99)


def test_ray_that_is_not_installed_is_said_before_anything_is_written(train, tmp_path, monkeypatch):
    monkeypatch.setattr("ragsmith.compute.ray_cluster.find_spec", lambda name: None)
    plan = replace(PLAN, refresh=replace(PLAN.refresh, background="ray"))
    with pytest.raises(ModuleNotFoundError, match=r"needs Ray. Run: pip install 'ragsmith\[cluster\]'"):
        train("ray", plan=plan)
    with pytest.raises(ValueError, match="background is 'thread'; it may be False, 'process', 'ray'"):
        train("ray", plan=replace(PLAN, refresh=replace(PLAN.refresh, background="thread")))
    assert not (tmp_path / "ray").exists()


def test_too_few_questions_for_a_step_are_refused_with_what_to_lower(train):
    with pytest.raises(ValueError, match=r"no whole batch .* Lower batch_size"):
        train(batch_size=13)


@pytest.mark.parametrize(("contrastive_weight", "kept", "readable"), [(0.0, 11, 1.0), (0.5, 12, 11 / 12)])
def test_answers_that_are_no_spans_are_counted_and_reported_and_teach_the_retriever_at_most(
    tiny_model, machine, town_base, town_questions, tmp_path, caplog, contrastive_weight, kept, readable
):
    asked = [replace(town_questions[0], answers=("crimson",)), *town_questions[1:]]
    reader = ExtractiveReader.load(tiny_model, ReaderSettings(48, 6), machine)
    settings = replace(SETTINGS, batch_size=kept, contrastive_weight=contrastive_weight)
    plan = replace(PLAN, loop=replace(LOOP, epochs=1), settings=settings)
    with caplog.at_level(logging.WARNING):
        run = train_rag(reader, town_base, asked, town_questions, plan, machine, tmp_path / "spans")
    assert run.report["examples"] == kept and run.report["without_span"] == 1
    assert "1 of 12 training questions teach the reader nothing" in caplog.text and "(q1)" in caplog.text
    log = pd.read_json(run.log, lines=True)
    assert log.loc[log["kind"] == "train", "readable"].tolist() == pytest.approx([readable])


@pytest.mark.parametrize("trained", [False, True])
def test_a_head_that_nobody_has_trained_ships_with_a_warning(
    tiny_model, machine, town_base, town_questions, tmp_path, caplog, trained
):
    settings = replace(SETTINGS, train_reader=False, objective="none", contrastive_weight=1.0)
    base = tiny_model
    if trained:
        base = tmp_path / "reader"
        base.mkdir()
        ExtractiveReader.load(tiny_model, ReaderSettings(48, 6), machine).save(base)
    reader = ExtractiveReader.load(base, ReaderSettings(48, 6), machine)
    train_rag(
        reader, town_base, town_questions, town_questions, replace(PLAN, settings=settings), machine, tmp_path / "w"
    )
    assert ("No reader is trained, and the one that ships finds answers by chance" in caplog.text) is not trained


def test_loop_and_settings_must_count_the_same_batches_as_a_step(
    tiny_model, machine, town_base, town_questions, tmp_path
):
    reader = ExtractiveReader.load(tiny_model, ReaderSettings(48, 6), machine)
    plan = replace(PLAN, loop=replace(LOOP, accumulation=2))
    with pytest.raises(ValueError, match=r"step of 2 batches and the settings count 1 \(accumulation\): give both"):
        train_rag(reader, town_base, town_questions, town_questions, plan, machine, tmp_path / "w")


def test_question_that_nobody_judged_is_left_out_where_nothing_that_is_found_holds_its_answer(
    town_base, town_questions, tiny_model, machine, tmp_path
):
    guessed = [replace(one, right=frozenset(), judged=False) for one in town_questions]
    guessed[0] = replace(guessed[0], answers=("transparent",))
    plan = replace(PLAN, settings=replace(SETTINGS, encoders="none", objective="none", search="bm25"))

    def train(name, asked):
        reader = ExtractiveReader.load(tiny_model, ReaderSettings(48, 6), machine)
        return train_rag(reader, town_base, asked, town_questions, plan, machine, tmp_path / name).report

    report = train("some", guessed)
    assert (report["without_answer"], report["without_span"], report["examples"], report["unjudged"]) == (1, 0, 11, 11)
    with pytest.raises(ValueError, match="There is no training question with an answer that is a span"):
        train("none", [replace(one, answers=("transparent",)) for one in guessed])


def test_report_counts_questions_that_end_to_end_training_leaves_out(
    town_base, town_questions, reader, machine, tmp_path
):
    asked = [replace(one, right=frozenset(), judged=False) for one in town_questions]
    asked[0] = replace(asked[0], answers=("transparent",))
    plan = replace(PLAN, loop=replace(LOOP, epochs=1))
    report = train_rag(reader, town_base, asked, town_questions, plan, machine, tmp_path / "work").report
    assert [report[name] for name in ("without_answer", "without_span", "left_out", "examples")] == [1, 0, 1, 11]


def test_training_without_any_span_is_refused_with_the_way_out(
    tiny_model, machine, town_base, town_questions, tmp_path
):
    asked = [replace(question, answers=("crimson",)) for question in town_questions]
    reader = ExtractiveReader.load(tiny_model, ReaderSettings(48, 6), machine)
    with pytest.raises(ValueError, match=r"no training question.* span.* Choose a reader that writes"):
        train_rag(reader, town_base, asked, town_questions, PLAN, machine, tmp_path / "spans")


@pytest.mark.parametrize(
    ("answered", "limits"), [("sentence", (48, 6)), ("word", (16, 6))], ids=["too long", "beyond what is read"]
)
def test_training_whose_answers_can_never_be_marked_is_refused_with_the_limits(
    tiny_model, machine, town_base, town_questions, tmp_path, answered, limits
):
    texts = dict(zip(town_base.passages["passage_id"], town_base.passages["text"], strict=True))
    asked = [
        replace(one, answers=(texts[min(one.right)],) if answered == "sentence" else one.answers)
        for one in town_questions
    ]
    reader = ExtractiveReader.load(tiny_model, ReaderSettings(*limits), machine)
    plan = replace(PLAN, settings=replace(SETTINGS, encoders="none", objective="none"))
    said = rf"a span of at most {limits[1]} tokens \(max_answer_tokens\) within the {limits[0]} .* \(max_tokens\)"
    with pytest.raises(ValueError, match=said):
        train_rag(reader, town_base, asked, town_questions, plan, machine, tmp_path / "never")
    some = [*asked[:3], *town_questions[3:]]
    reader.settings = ReaderSettings(48, 6)
    report = train_rag(reader, town_base, some, town_questions, plan, machine, tmp_path / "some").report
    lost = 3 if answered == "sentence" else 0
    assert [report[name] for name in ("without_span", "left_out", "examples")] == [lost, lost, 12 - lost]
