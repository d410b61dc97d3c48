import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ragsmith.learn.checkpoints import weights
from ragsmith.learn.loop import LoopSettings, fit, make_optimizer, schedule


def train(task, work, machine, **settings):
    return fit(task, LoopSettings(**{"epochs": 2, "learning_rate": 0.05} | settings), machine, work, "toy")


def log_of(result):
    return [json.loads(line) for line in result.log.read_text("utf-8").splitlines()]


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_training_gets_better_and_leaves_last_and_best_weights(toy_task, machine, tmp_path):
    task = toy_task()
    result = train(task, tmp_path / "run", machine, epochs=10, patience=99)
    assert result.state.finished and result.state.step == 40
    scores = result.state.scores
    assert result.state.best_score == max(scores.values()) == scores[result.state.best_step] > scores[0] / 4
    task.module.load_state_dict(result.checkpoints.best())
    task.module.eval()
    assert task.evaluate() == (result.state.best_score, {})


def test_log_has_a_line_per_step_and_evaluation(toy_task, machine, tmp_path):
    log = log_of(train(toy_task(), tmp_path / "run", machine))
    assert [line["step"] for line in log if line["kind"] == "train"] == list(range(1, 9))
    assert [line["step"] for line in log if line["kind"] == "dev"] == [0, 2, 4, 6, 8]
    assert log[0].keys() == {"kind", "step", "score"}
    assert log[1].keys() == {"kind", "step", "loss", "learning_rate", "gradient_norm", "first"}


def test_tensorboard_shows_what_the_log_has(toy_task, machine, tmp_path):
    result = train(toy_task(), tmp_path / "run", machine)
    events = EventAccumulator(str(result.tensorboard)).Reload()
    log = log_of(result)
    for kind, name in (("train", "loss"), ("dev", "score")):
        shown = [(event.step, event.value) for event in events.Scalars(f"{kind}/{name}")]
        expected = [(line["step"], pytest.approx(line[name], rel=1e-6)) for line in log if line["kind"] == kind]
        assert shown == expected


def test_same_seed_gives_the_same_weights_and_another_one_others(toy_task, machine, tmp_path):
    tasks = [toy_task() for _ in range(3)]
    for number, (task, seed) in enumerate(zip(tasks, (0, 0, 1), strict=True)):
        torch.manual_seed(number)  # what was drawn before makes no difference
        train(task, tmp_path / str(number), machine, seed=seed)
    one, other, third = (weights(task.module) for task in tasks)
    assert same(one, other) and not same(one, third)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0, 60], ids=["checkpoint each step", "checkpoint at evaluations"])
def test_run_killed_twice_at_any_change_of_the_disk_ends_as_the_undisturbed_one(tmp_path, seconds):
    script = Path(__file__).with_name("killed_runs.py")
    done = subprocess.run([sys.executable, script, tmp_path, str(seconds)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["points"] > 30 and result["different"] == []


def test_interrupted_run_goes_on_from_its_last_checkpoint(toy_task, machine, tmp_path):
    whole = toy_task()
    expected = train(whole, tmp_path / "whole", machine)

    class Interrupted(toy_task):
        def loss(self, epoch, number):
            if (epoch, number) == (1, 1):
                raise KeyboardInterrupt
            return super().loss(epoch, number)

    with pytest.raises(KeyboardInterrupt):
        train(Interrupted(), tmp_path / "run", machine)
    task = toy_task()
    asked = []
    loss = task.loss
    task.loss = lambda epoch, number: asked.append((epoch, number)) or loss(epoch, number)
    result = train(task, tmp_path / "run", machine)
    assert asked == [(1, 0), (1, 1), (1, 2), (1, 3)]  # the last evaluation was at step 4
    assert result.log.read_text() == expected.log.read_text() and same(weights(task.module), weights(whole.module))


def test_finished_run_is_not_trained_again(toy_task, machine, tmp_path):
    first = toy_task()
    train(first, tmp_path / "run", machine)
    second = toy_task()
    result = train(second, tmp_path / "run", machine)
    assert second.evaluated == 0 and result.state.step == 8
    assert same(weights(first.module), weights(second.module))


@pytest.mark.parametrize("change", [{"name": "other data"}, {"learning_rate": 0.01}, {"seed": 1}])
def test_run_of_another_identity_starts_from_its_own_beginning(toy_task, machine, tmp_path, change):
    name, settings = change.get("name", "toy"), {key: change[key] for key in change if key != "name"}
    train(toy_task(), tmp_path / "shared", machine)
    task, alone = toy_task(name), toy_task(name)
    shared = train(task, tmp_path / "shared", machine, **settings)
    expected = train(alone, tmp_path / "alone", machine, **settings)
    assert shared.log.read_text() == expected.log.read_text()
    assert same(weights(task.module), weights(alone.module))


def test_training_stops_after_evaluations_without_a_gain(toy_task, machine, tmp_path):
    task = toy_task(scores=[0.1, 0.5, 0.4, 0.5])
    result = train(task, tmp_path / "run", machine, patience=2)
    assert result.state.scores == {0: 0.1, 2: 0.5, 4: 0.4, 6: 0.5}
    assert (result.state.best_step, result.state.best_score, result.state.step) == (2, 0.5, 6)


def test_gain_below_min_delta_does_not_count(toy_task, machine, tmp_path):
    task = toy_task(scores=[0.1, 0.5, 0.55, 0.59])
    result = train(task, tmp_path / "run", machine, patience=2, min_delta=0.1)
    assert (result.state.best_step, result.state.step) == (2, 6)


def test_model_that_never_gains_leaves_no_best_weights(toy_task, machine, tmp_path):
    result = train(toy_task(scores=[0.5, 0.1, 0.2]), tmp_path / "run", machine, patience=2)
    assert result.state.best_step == 0 and result.checkpoints.best() is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_loss_that_is_not_finite_stops_with_the_step_and_what_to_do(toy_task, machine, tmp_path, value):
    class Diverging(toy_task):
        def loss(self, epoch, number):
            loss, figures = super().loss(epoch, number)
            return (loss * value if (epoch, number) == (1, 1) else loss), figures

    with pytest.raises(FloatingPointError, match=f"The loss is {value} at step 5. Lower learning_rate"):
        train(Diverging(), tmp_path / "run", machine)
    assert train(toy_task(), tmp_path / "run", machine).state.step == 8  # the checkpoint before it was kept


def test_task_without_a_batch_is_refused(toy_task, machine, tmp_path):
    task = toy_task()
    task.batches_per_epoch = 0
    with pytest.raises(ValueError, match="toy: there is no whole batch to train on"):
        train(task, tmp_path / "run", machine)


def test_learning_rate_rises_in_a_line_and_falls_in_half_a_cosine():
    rates = [schedule(step, 10, 0.2) for step in range(10)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[6] == pytest.approx(0.5) and rates == sorted(rates[:2]) + sorted(rates[2:], reverse=True)
    assert 0 < rates[-1] < 0.05


@pytest.mark.parametrize("warmup", [0.0, 1.0])
@pytest.mark.parametrize("total", [1, 2, 7])
def test_learning_rate_is_a_share_whatever_the_length(total, warmup):
    assert all(0 < schedule(step, total, warmup) <= 1 for step in range(total))


def test_logged_learning_rate_is_the_peak_times_the_schedule(toy_task, machine, tmp_path):
    log = log_of(train(toy_task(), tmp_path / "run", machine, warmup=0.25))
    rates = [line["learning_rate"] for line in log if line["kind"] == "train"]
    assert rates == [0.05 * schedule(step, 8, 0.25) for step in range(8)]


def test_biases_are_not_decayed(toy_task):
    decayed, plain = make_optimizer(toy_task().module, LoopSettings(1, 0.1, weight_decay=0.3)).param_groups
    assert [p.ndim for p in decayed["params"]] == [2, 2] and decayed["weight_decay"] == 0.3
    assert [p.ndim for p in plain["params"]] == [1, 1] and plain["weight_decay"] == 0
