import gc
import json
import math
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ragsmith.learn import loop
from ragsmith.learn.checkpoints import weights
from ragsmith.learn.loop import LIMITS, LoopSettings, PlainTask, fit, make_optimizer, schedule, train_step
from ragsmith.retrieve.encoder import VectorError


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
    task.module.load_state_dict(result.checkpoints.best(result.state.best_step))
    task.module.eval()
    assert task.evaluate() == (result.state.best_score, {})


def test_log_has_a_line_per_step_and_evaluation(toy_task, machine, tmp_path):
    log = log_of(train(toy_task(), tmp_path / "run", machine))
    assert [line["step"] for line in log if line["kind"] == "train"] == list(range(1, 9))
    assert [line["step"] for line in log if line["kind"] == "dev"] == [0, 2, 4, 6, 8]
    assert log[0].keys() == {"kind", "step", "score"}
    assert log[1].keys() == {"kind", "step", "loss", "learning_rate", "gradient_norm", "first"}


def test_log_has_the_mean_loss_of_each_epoch(toy_task, machine, tmp_path):
    log = log_of(train(toy_task(), tmp_path / "run", machine))
    losses = [line["loss"] for line in log if line["kind"] == "train"]
    epochs = [line for line in log if line["kind"] == "epoch"]
    assert [(line["epoch"], line["step"]) for line in epochs] == [(1, 4), (2, 8)]
    assert [line["loss"] for line in epochs] == pytest.approx([sum(losses[:4]) / 4, sum(losses[4:]) / 4])


def test_tensorboard_shows_what_the_log_has(toy_task, machine, tmp_path):
    result = train(toy_task(), tmp_path / "run", machine)
    events = EventAccumulator(str(result.tensorboard)).Reload()
    log = log_of(result)
    for kind, name in (("train", "loss"), ("epoch", "loss"), ("dev", "score")):
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
    assert result.state.best_step == 0 and result.checkpoints.best(0) is None


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


@pytest.mark.parametrize(
    ("kind", "rates"),
    [
        ("cosine", [0.5, 1.0, 1.0, 0.5 * (1 + math.cos(math.pi / 4)), 0.5, 0.5 * (1 - math.cos(math.pi / 4))]),
        ("linear", [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]),
        ("polynomial", [0.5, 1.0, 1.0, 0.5625, 0.25, 0.0625]),
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_each_schedule_falls_as_worked_by_hand(kind, rates):
    assert [schedule(step, 6, 1 / 3, kind) for step in range(6)] == pytest.approx(rates)


def test_adam_is_without_decay(toy_task):
    groups = make_optimizer(toy_task().module, LoopSettings(1, 0.1, weight_decay=0.3, optimizer="adam")).param_groups
    assert [group["weight_decay"] for group in groups] == [0.0, 0.0]


def test_part_of_the_rate_goes_by_the_beginning_of_the_name(toy_task, machine):
    task = toy_task()
    task.rate_factors = {"0.": 0.0}  # the first layer stands still
    settings = LoopSettings(1, 0.05, warmup=0.0)
    before = [parameter.detach().clone() for parameter in task.module.parameters()]
    train_step(task, make_optimizer(task.module, settings, task.rate_factors), settings, machine, 0, 0, 4)
    moved = [not torch.equal(p, old) for p, old in zip(task.module.parameters(), before, strict=True)]
    assert moved == [False, False, True, True]


def test_gradients_of_several_batches_make_one_step_and_figures_are_their_means(toy_task, machine):
    settings = LoopSettings(1, 1e-9, clip=1e9, accumulation=2, warmup=0.0)
    task = toy_task()
    task.module[1].p = 0.0  # no dropout: each batch would draw its own
    figures = train_step(task, make_optimizer(task.module, settings), settings, machine, 0, 1, 2)
    found = [parameter.grad.clone() for parameter in task.module.parameters()]
    task.module.zero_grad()
    losses, firsts = zip(*[task.loss(0, number) for number in (2, 3)], strict=True)
    (sum(losses) / 2).backward()
    for parameter, gradient in zip(task.module.parameters(), found, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    assert figures["loss"] == pytest.approx(sum(losses).item() / 2)
    assert figures["first"] == pytest.approx(sum(one["first"] for one in firsts) / 2)


def test_steps_of_several_batches_are_fewer_and_too_few_batches_are_refused(toy_task, machine, tmp_path):
    result = train(toy_task(), tmp_path / "run", machine, accumulation=3)
    assert result.state.step == 2  # four batches in each of two epochs: one step each, and a batch is left over
    with pytest.raises(ValueError, match=r"no whole batch .* Lower batch_size or accumulation"):
        train(toy_task(), tmp_path / "other", machine, accumulation=5)


def test_what_a_task_keeps_between_steps_is_in_the_checkpoint_and_comes_back(toy_task, machine, tmp_path):
    class Counting(toy_task):
        steps = 0

        def loss(self, epoch, number):
            self.steps += 1
            if self.steps == 7:
                raise KeyboardInterrupt
            return super().loss(epoch, number)

        def state(self):
            return {"steps": self.steps}

        def restore(self, state):
            self.restored = state
            self.steps = state.get("steps", 0)

    task = Counting()
    with pytest.raises(KeyboardInterrupt):
        train(task, tmp_path / "run", machine, checkpoint_seconds=0.0)
    assert task.restored == {}
    again = Counting()
    again.steps = 99
    with pytest.raises(KeyboardInterrupt):
        train(again, tmp_path / "run", machine, checkpoint_seconds=0.0)
    assert again.restored == {"steps": 6} and again.steps == 7


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"schedule": "foo"}, r"schedule is 'foo'; it may be cosine, linear, polynomial, constant\.$"),
        ({"optimizer": "sgd"}, r"optimizer is 'sgd'; it may be adamw, adam\.$"),
        ({"learning_rate": math.nan}, "learning_rate is nan; it must be a finite number of at least 0"),
        ({"epochs": 0, "clip": 0.0}, "epochs is 0; .*clip is 0.0; it must be a finite number above 0"),
    ],
)
def test_choices_and_numbers_that_cannot_be_are_refused(values, message):
    with pytest.raises(ValueError, match=f"^LoopSettings: .*{message}"):
        LoopSettings(**{"epochs": 1, "learning_rate": 1e-3} | values)


def test_every_setting_has_its_limits():
    assert set(LIMITS) == set(LoopSettings.__dataclass_fields__)


def test_what_a_failed_try_had_computed_is_gone_before_the_next_one(machine, monkeypatch):
    class Held:
        """Stands for the graph of a step."""

    class Task(PlainTask):
        batches_per_epoch = 1

        def __init__(self) -> None:
            self.module = torch.nn.Linear(2, 1)
            self.held = []

        def loss(self, epoch, number):
            assert all(reference() is None for reference in self.held)
            graph = Held()
            self.held.append(weakref.ref(graph))
            if len(self.held) < 3:
                raise torch.OutOfMemoryError("out of memory")
            return self.module(torch.ones(1, 2)).sum(), {}

        def shrink(self) -> bool:
            return True

    given_back = []
    monkeypatch.setattr(loop, "give_back_freed", lambda: given_back.append(task.held[-1]()))
    task, settings = Task(), LoopSettings(1, 1e-3)
    gc.disable()  # a circle would keep it until the collector comes by
    try:
        train_step(task, make_optimizer(task.module, settings), settings, machine, 0, 0, 1)
    finally:
        gc.enable()
    assert len(task.held) == 3 and given_back == [None, None]


def test_too_little_memory_for_the_optimizer_or_for_dev_is_told_with_what_to_do(toy_task, machine, tmp_path):
    def short():
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")

    task, settings = toy_task(), LoopSettings(1, 1e-3)
    optimizer = make_optimizer(task.module, settings)
    optimizer.step = short
    with pytest.raises(MemoryError, match=r"for the optimizer at step 0: (.|\n)*lora\.rank"):
        train_step(task, optimizer, settings, machine, 0, 0, 1)

    class Wide(toy_task):
        wrong = "can't allocate memory"

        def evaluate(self):
            raise RuntimeError(self.wrong)

    with pytest.raises(MemoryError, match="to ask the dev questions after step 0"):
        train(Wide(), tmp_path / "run", machine)
    Wide.wrong = "shapes cannot be multiplied"
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        train(Wide(), tmp_path / "other", machine)


@pytest.mark.parametrize(("step", "advice"), [(0, "look at the base model"), (4, "Lower learning_rate")])
def test_encoder_that_gives_no_numbers_is_told_as_a_matter_of_training(toy_task, machine, tmp_path, step, advice):
    class Damaged(toy_task):
        evaluated = 0

        def evaluate(self):
            self.evaluated += 1
            if self.evaluated > (1 if step else 0):
                raise VectorError("The encoder gives a vector of numbers that are none.")
            return super().evaluate()

    with pytest.raises(FloatingPointError, match=rf"After step \d+ the vectors .* {advice}") as failed:
        train(Damaged(), tmp_path / "run", machine)
    assert not isinstance(failed.value, VectorError)
