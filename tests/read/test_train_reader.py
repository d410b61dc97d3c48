import json

import pytest

from ragsmith.learn.loop import LoopSettings
from ragsmith.read.extractive import ExtractiveReader, ReaderSettings
from ragsmith.read.reading import ReadingPassage
from ragsmith.read.train_reader import ReaderPlan, train_reader
from ragsmith.read.training import ReadingExample, exact_share

THINGS = {"tree": "shutil.rmtree", "root": "math.sqrt", "order": "random.shuffle", "json": "json.dumps"}


def questions(asked):
    """Each question with the passage of its thing and that of the next: the name before the bracket is the answer."""
    things = list(THINGS)
    passages = {
        thing: ReadingPassage(thing, f"{name}(x)\n\nAbout the {thing}.", 0.0) for thing, name in THINGS.items()
    }
    return [
        ReadingExample(
            asked.format(thing),
            (passages[things[number - 1]], passages[thing]),
            (THINGS[thing],),
            frozenset({thing}),
        )
        for number, thing in enumerate(things)
    ]


@pytest.fixture
def run(tiny_model, machine, tmp_path):
    def train(base=tiny_model, dev=None, name="work", prior_weights=(0.0, 1.0), **loop):
        schedule = LoopSettings(**{"epochs": 4, "learning_rate": 3e-3, "patience": 99, "evaluations": 1} | loop)
        plan = ReaderPlan(ReaderSettings(max_tokens=32, max_answer_tokens=6), 4, prior_weights, schedule)
        dev = questions("the {}?") if dev is None else dev
        return train_reader(base, questions("the {}?") * 15, dev, plan, machine, tmp_path / name)

    return train


def test_one_of_several_processes_is_refused_before_anything_is_written(run, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="Training a reader is work for one process, and this is one of 2"):
        run(name="several")
    assert not (tmp_path / "several").exists()


def test_toy_questions_are_learnt_to_an_exact_match_of_one(run, machine):
    result = run()
    assert max(result.report["scores"].values()) == 1.0 > result.report["scores"][0]
    reader = ExtractiveReader.load(result.model, machine=machine)
    dev = questions("the {}?")
    spans = reader.answer_all([e.question for e in dev], [e.passages for e in dev])
    assert exact_share(spans, dev) == 1.0
    assert [span.text for span in spans] == list(THINGS.values())


def test_report_tells_the_prior_that_was_tried_and_the_folder_keeps_it(run):
    result = run(epochs=1, prior_weights=(2.0, 0.0))
    assert [row["prior_weight"] for row in result.report["prior"]] == [2.0, 0.0]
    saved = json.loads((result.model / "reader.json").read_text())
    weight = result.report["prior_weight"]
    assert saved == {"max_tokens": 32, "max_answer_tokens": 6, "prior_weight": weight, "candidates": 1}
    assert result.report["steps"] == 15 and result.report["examples"] == 60 and result.report["dev_questions"] == 4


def test_second_call_takes_the_finished_training(run):
    first = run(epochs=1)
    weights, log = (first.model / "model.safetensors").read_bytes(), first.log.read_text()
    second = run(epochs=1)
    assert (second.model / "model.safetensors").read_bytes() == weights and second.log.read_text() == log
    assert second.report == first.report


def test_base_that_could_read_already_is_kept_when_training_makes_it_worse(run, machine):
    able = run()
    worse = run(base=able.model, name="worse", epochs=1, learning_rate=1.0, warmup=0.0)
    assert worse.report["scores"] == {0: 1.0, 15: pytest.approx(0, abs=0.6)}
    assert (worse.model / "model.safetensors").read_bytes() == (able.model / "model.safetensors").read_bytes()


def test_without_dev_questions_training_is_refused(run):
    with pytest.raises(ValueError, match="no dev question with an answer"):
        run(dev=[])
