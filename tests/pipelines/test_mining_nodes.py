"""The step of negative_mining with a real encoder and index."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ragsmith.compute.device import Machine
from ragsmith.pipelines.negative_mining.nodes import mine
from ragsmith.pipelines.negative_mining.params import NegativeMiningParams
from ragsmith.pipelines.params import ComputeParams
from ragsmith.retrieve.build import build_index
from ragsmith.retrieve.encoder import CHUNK, FIRST_CHUNK, Encoder
from ragsmith.retrieve.models import resolve_model
from ragsmith.retrieve.teacher import Teacher

QUERIES = FIRST_CHUNK + 44


@pytest.fixture
def mine_all(tmp_path):
    """The step over more queries than are encoded at once, and 30 passages."""
    model = resolve_model("random:bert-2x64")
    passages = pd.DataFrame({"passage_id": [f"p{number}" for number in range(30)]})
    passages = passages.assign(document_id=passages["passage_id"], title="", text="all of " + passages["passage_id"])
    ids = [f"q{number}" for number in range(QUERIES)]
    queries = pd.DataFrame({"query_id": ids, "text": [f"what is {i}" for i in ids], "split": "train"})
    answers = [f"p{number % 30}" for number in range(QUERIES)]
    qrels = pd.DataFrame({"query_id": ids, "passage_id": answers, "grade": 1})
    splits = pd.DataFrame({"document_id": passages["document_id"], "split": "train"})
    index = build_index(model, passages, Machine("cpu", "fp32"), 4096, tmp_path / "index", "")
    nothing = pd.DataFrame({"query_id": [], "passage_id": [], "score": []})

    def run(work="work", given=nothing, scores=nothing, reranker=None, params=None):
        settings = NegativeMiningParams.model_validate({"relative_margin": None} | (params or {}))
        compute = ComputeParams(device="cpu", precision="fp32")
        folder = Path(tmp_path / work)
        folder.mkdir(exist_ok=True)
        pool = tmp_path / "no pool"
        tables = (queries, qrels, passages, splits, model, index, reranker, pool, given, scores)
        return mine(*tables, folder, settings, compute)

    return run


def test_a_killed_run_does_not_encode_again_the_queries_that_it_had(mine_all, monkeypatch):
    encoded, vectors = [], Encoder._vectors
    assert FIRST_CHUNK < QUERIES < CHUNK  # two blocks

    def dies(self, token_ids, kind, weights):
        if encoded and dies.mortal:
            raise KeyboardInterrupt
        encoded.append(len(token_ids))
        return vectors(self, token_ids, kind, weights)

    dies.mortal = True
    monkeypatch.setattr(Encoder, "_vectors", dies)
    with pytest.raises(KeyboardInterrupt):
        mine_all()
    dies.mortal = False
    again = mine_all()[0]
    assert encoded == [FIRST_CHUNK, QUERIES - FIRST_CHUNK]
    mine_all()
    assert len(encoded) == 2  # all queries were known
    pd.testing.assert_frame_equal(again, mine_all("another")[0])


def test_the_report_counts_the_given_negatives_that_are_used_and_those_that_are_not(mine_all):
    rows = [("q0", "p7", 0.5), ("q0", "p0", np.nan), ("q0", "gone", 1.0), ("nobody", "p1", 1.0)]
    table, _, report, _, _ = mine_all(given=pd.DataFrame(rows, columns=["query_id", "passage_id", "score"]))
    assert table.at[0, "negative_ids"][0] == "p7"
    assert (report["given"], report["given_left_out"]) == (1, 3)


class FakeTeacher:
    """Scores each pair by its passage's place."""

    gives_logits = False

    def score(self, queries, passages, query_of, passage_of, label=""):
        return 1 - passage_of.astype(np.float32) / 100


def test_scores_of_records_are_counted_and_give_way_to_a_reranker_of_our_own(mine_all, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    given = pd.DataFrame({"query_id": ["q0", "q1"], "passage_id": ["p7", "p7"], "score": [-1.0, np.nan]})
    scores = pd.DataFrame({"query_id": ["q0"], "passage_id": ["p0"], "score": [5.0]})
    table, _, report, _, _ = mine_all(given=given, scores=scores)
    assert table.at[0, "teacher_scores"][:2] == [5, -1] and np.isnan(table.at[0, "teacher_scores"][2:]).all()
    assert report["given_scores"] == 1 == (table["teacher_scores"].map(len) > 0).sum()
    assert f"1 of {QUERIES} queries have a teacher's scores from records" in caplog.text
    monkeypatch.setattr(Teacher, "load", lambda *given: FakeTeacher())
    table, _, report, _, _ = mine_all(given=given, scores=scores, reranker=Path("reranker"))
    assert table.at[0, "teacher_scores"][:2] == pytest.approx([1, 0.93]) and report["given_scores"] == 0
    assert np.isfinite(np.concatenate(table["teacher_scores"])).all()
    assert "1 queries have a teacher's scores in the records, which are not used: models.reranker" in caplog.text


def test_the_instruction_stands_before_each_query_and_not_in_the_table_of_another_one(mine_all):
    encoder = Encoder.load(resolve_model("random:bert-2x64"), Machine("cpu", "fp32"))
    for prompt in ("find: ", "all of "):
        row = mine_all(params={"query_prompt": prompt})[0].iloc[0]
        query = encoder.encode([f"{prompt}what is q0"], "query")[0]
        passages = encoder.encode([f"all of {passage_id}" for passage_id in row.negative_ids], "passage")
        assert row.negative_scores == pytest.approx(passages @ query, abs=1e-5)
