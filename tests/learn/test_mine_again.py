import json
import logging
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
import torch

from ragsmith.compute.device import Machine
from ragsmith.learn.backends.gated import train_by
from ragsmith.learn.contrastive import ContrastiveSettings, dev_score
from ragsmith.learn.loop import LoopSettings
from ragsmith.learn.mine_again import FreshNegatives
from ragsmith.learn.stages import RetrieverData
from ragsmith.learn.train_retriever import RetrieverSettings
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.margins import Margins
from ragsmith.retrieve.mining_data import MiningSettings


def test_fresh_negatives_are_the_nearest_by_the_model_that_is_given(fresh, tiny_model, machine, passages, queries):
    encoder = Encoder.load(tiny_model, machine)
    mined = fresh()(encoder, ["q2", "q5"])
    assert mined["query_id"].tolist() == ["q2", "q5"]
    vectors = encoder.encode(
        [f"{t}\n{x}" for t, x in zip(passages["title"], passages["text"], strict=True)], "passage"
    )
    for row, number in zip(mined.itertuples(), (1, 4), strict=True):
        scores = vectors @ encoder.encode([queries["text"][number]], "query")[0]
        scores[number] = -1
        assert list(row.negative_ids) == passages["passage_id"].iloc[np.argsort(-scores)[:2]].tolist()


def test_fresh_negatives_come_from_the_pool_alone(fresh, tiny_model, machine):
    mined = fresh(pool={"p1", "p3"})(Encoder.load(tiny_model, machine), ["q1", "q2"])
    assert [set(ids) for ids in mined["negative_ids"]] == [{"p3"}, {"p1", "p3"}]


def test_given_negatives_and_a_teacher_s_scores_of_records_are_there_in_each_round_and_process(
    fresh, tiny_model, machine, tmp_path
):
    given = pd.DataFrame({"query_id": ["q2"], "passage_id": ["p6"], "score": [-3.0]})
    scores = pd.DataFrame({"query_id": ["q2"], "passage_id": ["p2"], "score": [4.0]})
    fresh(given=given, positive_scores=scores).write(tmp_path / "job")
    handed = FreshNegatives.read(tmp_path / "job")
    table = handed(Encoder.load(tiny_model, machine), ["q2", "q5"]).set_index("query_id")
    assert table.at["q2", "negative_ids"][0] == "p6" and list(table.at["q2", "teacher_scores"][:2]) == [4, -3]
    assert len(table.at["q5", "teacher_scores"]) == 0
    other = fresh(given=given, positive_scores=scores.assign(score=5.0))
    assert other(Encoder.load(tiny_model, machine), ["q2"]).at[0, "teacher_scores"][0] == 5


def test_settings_come_back_out_of_json() -> None:
    settings = MiningSettings(miner="hybrid", top_k=7, margins=Margins(0.1, (0.05,), absolute=0.2))
    assert MiningSettings.of_json(json.loads(json.dumps(asdict(settings)))) == settings


@pytest.mark.slow
def test_another_trainer_goes_through_the_same_gate(tiny_model, queries, mined, passages, dev, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    machine = Machine("cpu", "fp32")
    mined["teacher_scores"] = [[2.0, 1.0, 0.0], *[[]] * 5]
    settings = RetrieverSettings(3, 1, 0.0, ContrastiveSettings(), LoopSettings(6, 5e-3))
    run = train_by(
        "sentence_transformers", tiny_model, RetrieverData(queries, mined, passages, dev), settings, machine, tmp_path
    )
    assert [row["name"] for row in run.report["gate"]] == ["average", "last", "base"]
    shipped = next(row for row in run.report["gate"] if row["shipped"])
    assert dev_score(Encoder.load(run.model, machine), dev) == pytest.approx(shipped["ndcg@10"], abs=1e-6)
    assert "1 of 6 queries have a teacher's scores, which are not used: this trainer is run with" in caplog.text
    log = pd.read_json(run.log, lines=True)
    assert log[log["kind"] == "dev"]["ndcg@10"].tolist() == pytest.approx(list(run.report["scores"].values()))


def test_what_was_mined_is_read_and_not_mined_again_unless_something_else_is_asked(
    fresh, tiny_model, machine, monkeypatch
):
    encoder, mines = Encoder.load(tiny_model, machine), []
    mined = FreshNegatives._mined
    monkeypatch.setattr(FreshNegatives, "_mined", lambda self, *given: mines.append(given) or mined(self, *given))
    one = fresh()(encoder, ["q2", "q5"])
    again = fresh()(encoder, ["q2", "q5"])
    assert len(mines) == 1 and again["query_id"].tolist() == ["q2", "q5"]
    assert [list(ids) for ids in again["negative_ids"]] == [list(ids) for ids in one["negative_ids"]]
    for number, other in enumerate([fresh(negatives=1), fresh(pool={"p1", "p3"})], start=2):
        other(encoder, ["q2", "q5"])
        assert len(mines) == number
    fresh()(encoder, ["q2"])
    with torch.no_grad():
        next(encoder.model.parameters()).mul_(1.1)
    fresh()(encoder, ["q2", "q5"])
    assert len(mines) == 5
