import pandas as pd
import pytest
from tiny_generators import saved_reader

from ragsmith.compute.device import Machine
from ragsmith.evaluate.conditions import Asked, oracle_run, predicted, read_conditions
from ragsmith.read.extractive import ExtractiveReader, ReaderSettings
from ragsmith.read.readers import load_reader
from ragsmith.read.reading import ReadingPassage, Span
from ragsmith.retrieve.build import build_index
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.index import DenseIndex
from ragsmith.retrieve.models import resolve_model
from ragsmith.retrieve.passage_text import passage_inputs
from ragsmith.retrieve.search import Searcher

MACHINE = Machine("cpu", "fp32")
PASSAGES = pd.DataFrame(
    {
        "passage_id": ["p1", "p2", "p3", "p4"],
        "title": ["shutil", "math", "json", "blank"],
        "text": ["shutil.rmtree(path) deletes a tree.", "math.sqrt(x) is the square root.", "json.dumps(obj)", " "],
    }
)
QUERIES = pd.DataFrame({"query_id": ["q2", "q1", "q3"], "text": ["delete a tree", "square root", "nothing found"]})
QRELS = pd.DataFrame(
    [("q2", "p1", 1), ("q2", "p3", 2), ("q2", "p2", 0), ("q1", "p2", 1), ("q3", "p4", 1), ("other", "p1", 1)],
    columns=["query_id", "passage_id", "grade"],
)
ANSWERS = pd.DataFrame({"query_id": ["q1", "q2", "q3"], "answers": [["math.sqrt"], ["shutil.rmtree"], ["nothing"]]})
ASKED = Asked(QUERIES, PASSAGES, QRELS, ANSWERS)


@pytest.fixture(scope="module")
def model():
    return resolve_model("random:bert-2x64")


@pytest.fixture(scope="module")
def searcher(model, tmp_path_factory):
    index = build_index(model, PASSAGES, MACHINE, 512, tmp_path_factory.mktemp("index"), "")
    return Searcher(Encoder.load(model, MACHINE), DenseIndex.load(index), PASSAGES)


@pytest.fixture(scope="module")
def reader(model):
    settings = ReaderSettings(max_tokens=48, max_answer_tokens=6, prior_weight=2.0)
    return ExtractiveReader.load(model, settings, MACHINE)


@pytest.fixture(scope="module")
def run(searcher):
    found = searcher.run(QUERIES["query_id"].tolist(), QUERIES["text"].tolist(), 4, "dense")
    return found[found["query_id"] != "q3"]


@pytest.fixture(scope="module")
def answered(reader, run, searcher):
    runs = {"retrieved": run, "oracle": oracle_run(QUERIES, QRELS, searcher)}
    return read_conditions(reader, ASKED, runs, 2, (1, 2, 4))


def test_oracle_holds_right_passages_alone_the_best_grade_first(searcher):
    found = oracle_run(QUERIES, QRELS, searcher)
    assert found[["query_id", "passage_id", "rank"]].values.tolist() == [
        ["q1", "p2", 1],
        ["q2", "p3", 1],
        ["q2", "p1", 2],
        ["q3", "p4", 1],
    ]
    dense = searcher.run(["q1"], ["square root"], 4, "dense").set_index("passage_id")
    assert found["cosine"][0] == pytest.approx(dense.at["p2", "cosine"], abs=1e-6)


def test_each_condition_answers_each_question_from_its_own_passages(answered, reader, run):
    table = answered.predictions
    assert table["condition"].tolist() == ["retrieved"] * 3 + ["oracle"] * 3
    assert table["query_id"].tolist() == ["q2", "q1", "q3"] * 2
    inputs = dict(zip(PASSAGES["passage_id"], passage_inputs(PASSAGES), strict=True))
    for row in table[table["answer"] != ""].itertuples():
        assert inputs[row.passage_id][row.start : row.end] == row.answer
    oracle = table[table["condition"] == "oracle"].set_index("query_id")
    assert oracle.at["q1", "passage_id"] == "p2" and oracle.at["q2", "passage_id"] in ("p1", "p3")
    first = run[(run["query_id"] == "q1") & (run["rank"] <= 2)]
    seen = [ReadingPassage(row.passage_id, inputs[row.passage_id], row.cosine) for row in first.itertuples()]
    span = reader.answer("square root", seen)
    mine = table[(table["condition"] == "retrieved") & (table["query_id"] == "q1")].iloc[0]
    assert (mine["answer"], mine["passage_id"], mine["start"]) == (span.text, span.passage_id, span.start)
    assert mine["score"] == pytest.approx(span.score, rel=1e-3)


def test_question_without_passages_has_an_empty_answer(answered):
    row = answered.predictions.iloc[2]
    assert row.tolist() == ["retrieved", "q3", "", "", -1, -1, 0.0]


def test_sweep_at_the_number_that_is_served_is_what_is_served(answered):
    assert answered.sweep.groupby("query_id")["k"].agg(list).tolist() == [[1, 2, 4]] * 3
    at = answered.sweep[answered.sweep["k"] == 2].set_index("query_id")
    served = answered.predictions[answered.predictions["condition"] == "retrieved"].set_index("query_id")
    assert at["answer"].to_dict() == served["answer"].to_dict()


def test_posteriors_are_shares_of_what_was_read(answered):
    table = answered.posteriors
    assert table.groupby("query_id")["rank"].agg(list).to_dict() == {"q1": [1, 2], "q2": [1, 2]}
    sums = table.groupby("query_id")[["prior", "posterior"]].sum()
    assert sums.to_numpy().ravel() == pytest.approx([1.0] * 4)


def test_questions_that_nobody_judged_are_not_read_under_the_oracle(reader, run, searcher):
    part = Asked(QUERIES, PASSAGES, QRELS[QRELS["query_id"] != "q3"], ANSWERS)
    assert part.judged() == {"q1", "q2"} and part.judged_alone().answers["query_id"].tolist() == ["q1", "q2"]
    runs = {"retrieved": run, "oracle": oracle_run(QUERIES, part.qrels, searcher)}
    table = read_conditions(reader, part, runs, 2).predictions
    assert table.groupby("condition")["query_id"].agg(list).to_dict() == {
        "retrieved": ["q2", "q1", "q3"],
        "oracle": ["q2", "q1"],
    }
    none = Asked(QUERIES, PASSAGES, QRELS[QRELS["query_id"] == "q1"], ANSWERS)
    runs["oracle"] = oracle_run(QUERIES, QRELS[:0], searcher)
    assert runs["oracle"].empty and none.judged() == set()
    assert set(read_conditions(reader, none, runs, 2).predictions["condition"]) == {"retrieved"}


@pytest.mark.parametrize("kind", ["rag_token", "causal"])
def test_reader_that_writes_is_read_under_each_condition(run, searcher, kind, tmp_path):
    reader = load_reader(saved_reader(kind, tmp_path), MACHINE)
    answered = read_conditions(
        reader, ASKED, {"retrieved": run, "oracle": oracle_run(QUERIES, QRELS, searcher)}, 2, (1, 2, 4)
    )
    table = answered.predictions
    assert table["query_id"].tolist() == ["q2", "q1", "q3"] * 2
    inputs = dict(zip(PASSAGES["passage_id"], passage_inputs(PASSAGES), strict=True))
    written = table[table["answer"] != ""]
    assert len(written) >= 4
    for row in written.itertuples():
        assert 0 <= row.score <= 1
        if row.start < 0:
            assert row.end == -1 and row.answer not in inputs[row.passage_id]
        else:
            assert inputs[row.passage_id][row.start : row.end] == row.answer
    found = [
        ReadingPassage(row.passage_id, inputs[row.passage_id], row.cosine)
        for row in run[(run["query_id"] == "q2") & (run["rank"] <= 2)].sort_values("rank").itertuples()
    ]
    (alone,) = reader.read_all(["delete a tree"], [found])
    assert table["answer"][0] == alone.answer.text
    shares = answered.posteriors[answered.posteriors["query_id"] == "q2"]
    assert shares["posterior"].tolist() == pytest.approx(alone.posterior, rel=1e-4)
    assert shares["prior"].tolist() == pytest.approx(alone.prior, rel=1e-4)
    assert sorted(answered.sweep["k"].unique()) == [1, 2, 4]
    assert answered.posteriors.groupby("query_id")[["prior", "posterior"]].sum().values == pytest.approx(1, rel=1e-5)


def test_empty_answer_that_was_written_is_no_answer():
    table = predicted("retrieved", ["q1"], [Span("", "p1", -1, -1, 0.9)])
    assert table.values.tolist() == [["retrieved", "q1", "", "", -1, -1, 0.0]]
