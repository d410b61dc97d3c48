import json

import pytest
import torch
from safetensors.torch import load_file

from ragsmith.learn.checkpoints import (
    CHECKPOINT,
    Checkpoints,
    TrainingState,
    load_moving,
    load_optimizer,
    moving_weights,
    optimizer_tensors,
    weights,
)


@pytest.fixture
def trained(toy_task):
    """A module and its optimizer after one step."""
    module = toy_task().module
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    module(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    return module, optimizer


@pytest.fixture
def fresh(toy_task):
    module = toy_task().module
    return module, torch.optim.AdamW(module.parameters(), lr=0.1)


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_checkpoint_restores_weights_optimizer_and_place_bit_by_bit(trained, fresh, tmp_path):
    state = TrainingState("run", step=3, best_score=0.1 + 0.2, stale=1, scores={0: 0.1, 3: 0.1 + 0.2})
    Checkpoints(tmp_path / "run", "run").save(*trained, state)
    assert Checkpoints(tmp_path / "run", "run").resume(*fresh) == state
    assert equal(weights(trained[0]), weights(fresh[0]))
    assert equal(optimizer_tensors(trained[1]), optimizer_tensors(fresh[1]))


def test_restored_optimizer_takes_the_same_next_step(trained, fresh):
    load_optimizer(fresh[1], optimizer_tensors(trained[1]))
    fresh[0].load_state_dict(weights(trained[0]))
    for module, optimizer in (trained, fresh):
        module.eval()
        optimizer.zero_grad()
        module(torch.ones(1, 3)).sum().backward()
        optimizer.step()
    assert equal(weights(trained[0]), weights(fresh[0]))


def test_copy_of_the_weights_does_not_change_with_them(trained):
    copy = weights(trained[0])
    before = {name: tensor.clone() for name, tensor in copy.items()}
    with torch.no_grad():
        trained[0][0].weight.add_(1)
    assert equal(copy, before)


def test_without_checkpoint_there_is_a_new_state(fresh, tmp_path):
    assert Checkpoints(tmp_path / "run", "run").resume(*fresh) == TrainingState("run")


def test_state_of_another_run_is_removed_and_not_continued(trained, fresh, tmp_path, caplog):
    theirs = Checkpoints(tmp_path / "run", "theirs")
    theirs.save(*trained, TrainingState("theirs", step=3, best_step=3))
    theirs.save_best(trained[0], 3)
    before = weights(fresh[0])
    ours = Checkpoints(tmp_path / "run", "ours")
    assert ours.resume(*fresh) == TrainingState("ours")
    assert equal(weights(fresh[0]), before) and not list((tmp_path / "run").iterdir())
    assert "training begins anew, and not at step 3" in caplog.text and "settings, code or machine" in caplog.text


@pytest.mark.parametrize("name", ["state.json", "model.safetensors", "optimizer.safetensors"])
def test_damaged_checkpoint_is_not_continued(trained, fresh, tmp_path, name, caplog):
    checkpoints = Checkpoints(tmp_path / "run", "run")
    checkpoints.save(*trained, TrainingState("run", step=3))
    path = tmp_path / "run" / CHECKPOINT / name
    path.write_bytes(path.read_bytes()[:-1])
    assert checkpoints.resume(*fresh).step == 0
    assert "training begins anew: the checkpoint" in caplog.text and "is damaged" in caplog.text


def test_checkpoint_is_found_when_the_process_died_between_the_two_renames(trained, fresh, tmp_path):
    checkpoints = Checkpoints(tmp_path / "run", "run")
    checkpoints.save(*trained, TrainingState("run", step=3))
    staging = tmp_path / "run" / f".{CHECKPOINT}.staging-dead"
    staging.mkdir()
    (tmp_path / "run" / CHECKPOINT).rename(staging / CHECKPOINT)
    assert checkpoints.resume(*fresh).step == 3


@pytest.mark.parametrize("damage", ["cut", "removed"])
def test_run_whose_best_weights_are_damaged_starts_anew(trained, fresh, tmp_path, damage, caplog):
    checkpoints = Checkpoints(tmp_path / "run", "run")
    checkpoints.save_best(trained[0], 2)
    checkpoints.save(*trained, TrainingState("run", step=3, best_step=2, finished=True))
    path = tmp_path / "run/best-2.safetensors"
    path.write_bytes(path.read_bytes()[:-1]) if damage == "cut" else path.unlink()
    assert checkpoints.resume(*fresh).step == 0
    assert "its best weights are damaged" in caplog.text


def test_best_weights_are_read_back_as_they_were(trained, tmp_path):
    checkpoints = Checkpoints(tmp_path, "run")
    assert checkpoints.best(0) is None
    checkpoints.save_best(trained[0], 2)
    assert equal(checkpoints.best(2), weights(trained[0]))


def test_best_weights_are_those_of_the_step_that_the_checkpoint_names(trained, fresh, tmp_path):
    """A run that dies after it has kept new best weights, and before its checkpoint, goes on with the best before."""
    checkpoints = Checkpoints(tmp_path / "run", "run")
    checkpoints.save_best(trained[0], 2)
    checkpoints.save(*trained, TrainingState("run", step=2, best_step=2))
    first = weights(trained[0])
    with torch.no_grad():
        trained[0][0].weight.add_(1)
    checkpoints.save_best(trained[0], 4)
    state = checkpoints.resume(*fresh)
    assert (state.step, state.best_step) == (2, 2) and equal(checkpoints.best(state.best_step), first)
    (tmp_path / "run/best-4.safetensors").write_text("what a process left that died before it could describe it")
    checkpoints.resume(*fresh)
    checkpoints.save_best(trained[0], 4)
    checkpoints.save(*trained, TrainingState("run", step=4, best_step=4))
    left = {path.name for path in (tmp_path / "run").iterdir() if not path.name.endswith(".lock")}
    assert left == {CHECKPOINT, "best-4.safetensors", ".best-4.safetensors.meta.json"}
    assert equal(checkpoints.best(4), weights(trained[0]))


def test_what_is_frozen_is_not_kept_and_what_moves_must_be_there(trained, fresh, tmp_path):
    for module, _ in (trained, fresh):
        module[0].bias.requires_grad_(False)
    checkpoints = Checkpoints(tmp_path / "run", "run")
    checkpoints.save(*trained, TrainingState("run", step=3))
    assert "0.bias" not in load_file(tmp_path / "run" / CHECKPOINT / "model.safetensors")
    assert checkpoints.resume(*fresh).step == 3
    kept = moving_weights(trained[0])
    assert equal(moving_weights(fresh[0]), kept) and "0.weight" in kept
    assert not torch.equal(fresh[0][0].bias, trained[0][0].bias)  # as it was there, and not what was saved
    del kept["0.weight"]
    with pytest.raises(ValueError, match=r"of another model: 0\.weight is missing"):
        load_moving(fresh[0], kept)
    with pytest.raises(ValueError, match=r"of another model: other is missing, or not there"):
        load_moving(fresh[0], {**moving_weights(trained[0]), "other": torch.zeros(1)})


def test_state_is_plain_json(trained, tmp_path):
    Checkpoints(tmp_path, "run").save(*trained, TrainingState("run", step=3, scores={3: 0.5}))
    state = json.loads((tmp_path / CHECKPOINT / "state.json").read_text())
    assert state["step"] == 3 and state["scores"] == {"3": 0.5}
