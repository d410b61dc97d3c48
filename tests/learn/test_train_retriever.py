import json
from dataclasses import replace

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from static_models import static_folder
from twin_models import twin_folder

from ragsmith.learn.backends.gated import TRAINERS, train_by
from ragsmith.learn.contrastive import ContrastiveSettings, DevSet, dev_score
from ragsmith.learn.gate import UntrainedModel
from ragsmith.learn.loop import LoopSettings
from ragsmith.learn.lora import LoraSettings
from ragsmith.learn.train_retriever import RetrieverData, RetrieverSettings, Stage, train_retriever
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.routes import KINDS


@pytest.fixture
def run(tiny_model, machine, queries, mined, passages, dev, tmp_path):
    """Train on the six queries; dev asks in the very words of training, so that an untrained model learns them."""

    def settings_of(batch_size=3, rank=0, **loop):
        schedule = LoopSettings(**{"epochs": 8, "learning_rate": 5e-3, "patience": 99} | loop)
        return RetrieverSettings(batch_size, 1, 0.5, ContrastiveSettings(), schedule, LoraSettings(rank))

    def train(base=tiny_model, dev=dev, **settings):
        data = RetrieverData(queries, mined, passages, dev)
        return train_retriever(base, data, settings_of(**settings), machine, tmp_path / "work")

    train.base, train.work = tiny_model, tmp_path / "work"
    train.dev, train.settings, train.data = dev, settings_of, RetrieverData(queries, mined, passages, dev)
    return train


def test_tuned_model_beats_its_base_and_is_the_one_that_was_scored(run, machine):
    result = run()
    table = {row["name"]: row["ndcg@10"] for row in result.report["gate"]}
    shipped = next(row for row in result.report["gate"] if row["shipped"])
    assert shipped["name"] != "base" and shipped["ndcg@10"] == max(table.values()) > table["base"] + 0.1
    assert dev_score(Encoder.load(result.model, machine), run.dev) == pytest.approx(shipped["ndcg@10"], abs=1e-6)
    assert result.report["scores"][0] == table["base"] and result.report["steps"] == 16
    assert not result.report["stopped_early"] and result.report["examples"] == 6


def test_shipped_folder_is_safetensors_only_and_keeps_tokenizer_and_pooling(run, tiny_model):
    model = run(epochs=1).model
    assert not [path.name for path in model.rglob("*") if path.suffix in {".bin", ".pt", ".pkl"}]
    assert (model / "tokenizer.json").is_file()
    types = [[entry["type"] for entry in json.loads((f / "modules.json").read_text())] for f in (model, tiny_model)]
    assert types[0] == types[1]


def test_base_ships_unchanged_when_training_only_harms(run, tiny_model, machine, passages):
    # Dev wants for each passage's own text that passage, which any model answers, and training cannot improve.
    dev = DevSet(
        passages["text"].tolist(),
        [{passage_id} for passage_id in passages["passage_id"]],
        passages["passage_id"].tolist(),
        passages["text"].tolist(),
    )
    result = run(dev=dev, epochs=1)
    shipped = next(row for row in result.report["gate"] if row["shipped"])
    assert shipped["name"] == "base" and "nothing beat" in shipped["reason"]
    texts = passages["text"].tolist()
    before, after = (Encoder.load(folder, machine).encode(texts, "passage") for folder in (tiny_model, result.model))
    assert np.array_equal(before, after)


@pytest.mark.parametrize(("epochs", "patience", "early"), [(2, 99, False), (8, 1, True)])
def test_training_has_stopped_early_when_steps_are_missing_however_many_batches_make_one(run, epochs, patience, early):
    # Two batches make one step. The base's own texts as dev: no evaluation gains.
    loop = {"accumulation": 2, "evaluations": 1, "epochs": epochs, "patience": patience, "learning_rate": 1e-9}
    report = run(**loop).report
    assert report["stopped_early"] is early and (report["steps"] == epochs) is not early


def test_learning_rate_of_nothing_is_called_what_it_is(run):
    with pytest.raises(UntrainedModel, match="Check learning_rate"):
        run(learning_rate=0.0, epochs=1)


def test_second_call_takes_the_finished_training_and_ships_the_same(run):
    first = run()
    weights = (first.model / "model.safetensors").read_bytes()
    log = first.log.read_text()
    second = run()
    assert (second.model / "model.safetensors").read_bytes() == weights
    assert second.log.read_text() == log and second.report == first.report


def two_encoders(folder, machine):
    """The vectors of a text by each encoder of a folder."""
    encoder = Encoder.load(folder, machine)
    assert len(encoder.different_towers) == 2
    return {kind: encoder.encode(["how to wait"], kind) for kind in KINDS}


@pytest.mark.parametrize("rank", [0, 2])
def test_model_with_two_encoders_is_tuned_on_both_sides(run, machine, tmp_path, rank):
    base = twin_folder(tmp_path / "twin")
    result = run(base=base, rank=rank)
    table = {row["name"]: row["ndcg@10"] for row in result.report["gate"]}
    shipped = next(row for row in result.report["gate"] if row["shipped"])
    assert shipped["name"] != "base" and shipped["ndcg@10"] > table["base"]
    assert dev_score(Encoder.load(result.model, machine), run.dev) == pytest.approx(shipped["ndcg@10"], abs=1e-6)
    before, after = two_encoders(base, machine), two_encoders(result.model, machine)
    assert all(not np.allclose(before[kind], after[kind], atol=1e-3) for kind in KINDS)
    names = [set(SentenceTransformer(str(folder), device="cpu").state_dict()) for folder in (base, result.model)]
    assert names[0] == names[1]  # nothing of the adapters is left


@pytest.mark.parametrize("backend", ["sentence_transformers", "flagembedding"])
def test_trainer_of_others_refuses_two_encoders_and_says_who_takes_them(run, machine, tmp_path, backend):
    base = twin_folder(tmp_path / "twin")
    with pytest.raises(ValueError, match=f"backend is {backend}, which trains one encoder.* Set backend to native"):
        train_by(backend, base, run.data, run.settings(), machine, tmp_path / "work")


def test_trainer_of_others_takes_the_rate_of_the_stage_and_knows_but_one(
    run, tiny_model, machine, tmp_path, monkeypatch
):
    rates, (real, taken) = [], TRAINERS["sentence_transformers"]

    def seen(base, examples, passages, settings, *more):
        rates.append(settings.loop.learning_rate)
        return real(base, examples, passages, settings, *more)

    monkeypatch.setitem(TRAINERS, "sentence_transformers", (seen, taken))
    for stages, rate in (((), 5e-3), ((Stage("structural", learning_rate=1e-3),), 1e-3)):
        data = replace(run.data, stages=stages)
        settings = run.settings(epochs=1)
        done = train_by("sentence_transformers", tiny_model, data, settings, machine, tmp_path / str(rate))
        assert rates.pop() == rate
        card = (done.model / "README.md").read_text("utf-8")
        assert f"| infonce | {rate} | 1 |" in card and "Trained by sentence_transformers." in card
        # What it does not know is not said: it has neither patience nor our dropout.
        assert "patience" not in card and "dropout the model's own" in card and "batch_size 3" in card
    data = replace(run.data, stages=(Stage("one"), Stage("two")))
    with pytest.raises(ValueError, match="sentence_transformers trains one stage, and 2 are asked for"):
        train_by("sentence_transformers", tiny_model, data, run.settings(), machine, tmp_path)


def test_fewer_examples_than_a_batch_are_refused(run):
    with pytest.raises(ValueError, match="no whole batch"):
        run(batch_size=7)


def test_gate_decides_by_all_passages_where_training_is_steered_by_few(run, machine, passages):
    few = [run.dev.passage_ids.index(passage_id) for passage_id in ("p1", "p2", "p3", "p4")]
    steering = DevSet(
        run.dev.texts[:4],
        run.dev.relevant[:4],
        [run.dev.passage_ids[place] for place in few],
        [run.dev.passages[place] for place in few],
    )
    data = replace(run.data, dev=steering, judge=run.dev)
    base, work = run.base, run.work
    result = train_retriever(base, data, run.settings(epochs=2), machine, work)
    table = {row["name"]: row["ndcg@10"] for row in result.report["gate"]}
    assert table["base"] == dev_score(Encoder.load(base, machine), run.dev) != result.report["scores"][0]
    shipped = next(row for row in result.report["gate"] if row["shipped"])
    assert dev_score(Encoder.load(result.model, machine), run.dev) == pytest.approx(shipped["ndcg@10"], abs=1e-6)
    assert result.report["metric"] == f"dev ndcg@10 over {len(run.dev.passages)} of {len(passages)} passages"
    assert result.report["steered_by"] == 4 and "among 4 passages" in (result.model / "README.md").read_text()


# --- models that are no transformers ---


def test_model_that_is_no_transformer_is_refused_before_training_with_what_to_do(run, tmp_path):
    folder = static_folder(tmp_path / "static")
    with pytest.raises(ValueError) as refusal:
        run(folder)
    assert str(refusal.value) == f"{folder}: The model begins with a StaticEmbedding, which is no transformer. " + (
        "It encodes, and cannot be trained here. Set retriever_training.backend to sentence_transformers, or name a "
        "transformer under models.encoder in globals.yml."
    )
    assert not run.work.exists()


def test_model_that_is_no_transformer_is_trained_by_sentence_transformers_and_judged_by_the_gate(
    run, machine, tmp_path
):
    folder = static_folder(tmp_path / "static")
    half = replace(machine, precision="bf16")
    result = train_by(
        "sentence_transformers", folder, run.data, run.settings(learning_rate=0.05), half, tmp_path / "work"
    )
    scores = {row["name"]: row["ndcg@10"] for row in result.report["gate"]}
    assert scores["last"] > scores["base"]
    assert dev_score(Encoder.load(result.model, machine), run.dev) == pytest.approx(max(scores.values()), abs=1e-6)
    assert type(SentenceTransformer(str(result.model), device="cpu")[0]).__name__ == "StaticEmbedding"
