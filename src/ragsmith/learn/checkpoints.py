"""The state of a training run, whole or not there: weights, optimizer, place, best so far."""

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragsmith.store import is_complete, publish_directory, publish_file, recover

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint"
BEST = "best-{}.safetensors"


@dataclass
class TrainingState:
    """Where a run stands.

    Attributes:
        identity: hash of everything that decides its outcome; another run's state is never continued.
        step: optimizer steps done.
        best_score, best_step: the best dev score so far and where; step 0 is the model before training.
        stale: evaluations since then.
        epoch_loss: sum of the losses of this epoch's steps.
        finished: no step is left, or patience ran out.
        scores: dev score by step.
        task: what the task keeps between steps (`Task.state`).
    """

    identity: str
    step: int = 0
    best_score: float = float("-inf")
    best_step: int = 0
    stale: int = 0
    epoch_loss: float = 0.0
    finished: bool = False
    scores: dict[int, float] = field(default_factory=dict)
    task: dict[str, Any] = field(default_factory=dict)


class Checkpoints:
    """Saves and restores a run in a work folder.

    Args:
        folder: of this run alone; what another run left there is removed.
        identity: see `TrainingState`.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder = folder
        self.identity = identity

    def resume(
        self, module: "torch.nn.Module", optimizer: "torch.optim.Optimizer", owner: bool = True
    ) -> TrainingState:
        """Load the last checkpoint into module and optimizer; a new state when there is none of this run.

        Args:
            module, optimizer: are filled.
            owner: whether to put the folder in order; of several processes one does, before the others come here.
        """
        from safetensors.torch import load_file

        place = self.folder / CHECKPOINT
        if owner:
            recover(place)  # a process that died between two renames left it half in place
        if is_complete(place):
            values = json.loads((place / "state.json").read_text("utf-8"))
            best = self._best_place(values["best_step"])
            if owner:
                recover(best)
            # Without the best weights the last ones would ship in their place, and nobody would know.
            whole = values["best_step"] == 0 or is_complete(best)
            if values["identity"] == self.identity and whole:
                if owner:
                    self._forget_bests(values["best_step"])
                values["scores"] = {int(step): score for step, score in values["scores"].items()}
                load_moving(module, load_file(place / "model.safetensors"))
                load_optimizer(optimizer, load_file(place / "optimizer.safetensors"))
                return TrainingState(**values)
            if owner:
                other = values["identity"] != self.identity
                why = "data, settings, code or machine are others" if other else "its best weights are damaged"
                logger.warning("training begins anew, and not at step %d of %s: %s", values["step"], place, why)
        elif owner and place.exists():
            logger.warning("training begins anew: the checkpoint %s is damaged", place)
        if owner:
            if self.folder.exists():
                shutil.rmtree(self.folder)
            self.folder.mkdir(parents=True)
        return TrainingState(self.identity)

    def save(self, module: "torch.nn.Module", optimizer: "torch.optim.Optimizer", state: TrainingState) -> None:
        """Publish the whole state in one rename."""
        from safetensors.torch import save_file

        def write(staging: Path) -> None:
            save_file(moving_weights(module), staging / "model.safetensors")
            save_file(optimizer_tensors(optimizer), staging / "optimizer.safetensors")
            (staging / "state.json").write_text(json.dumps(asdict(state)), "utf-8")

        publish_directory(self.folder / CHECKPOINT, write)
        self._forget_bests(state.best_step)  # until now a killed run would have gone on from the one before

    def save_best(self, module: "torch.nn.Module", step: int) -> None:
        """Publish the weights of this step as the best so far; those before them stay until the next `save`."""
        from safetensors.torch import save_file

        publish_file(self._best_place(step), lambda staging: save_file(moving_weights(module), staging))

    def best(self, step: int) -> "dict[str, torch.Tensor] | None":
        """The best weights for `load_moving`, or None when the model before training was never beaten.

        Args:
            step: `best_step` of the state: a run that died may have left later ones, of steps that it did not keep.
        """
        from safetensors.torch import load_file

        return load_file(self._best_place(step)) if step else None

    def _best_place(self, step: int) -> Path:
        return self.folder / BEST.format(step)

    def _forget_bests(self, but: int) -> None:
        """Remove best weights of other steps, whole or what a killed run left of them."""
        kept = self._best_place(but).name
        for path in self.folder.iterdir():
            if BEST.partition("{")[0] in path.name and kept not in path.name:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def weights(module: "torch.nn.Module") -> "dict[str, torch.Tensor]":
    """A copy of the state dict in which no two tensors share memory, as safetensors wants it."""
    return copied(module.state_dict())


def moving_weights(module: "torch.nn.Module") -> "dict[str, torch.Tensor]":
    """`weights` without the parameters that are frozen: what training may change."""
    frozen = frozen_names(module)
    return copied({name: tensor for name, tensor in module.state_dict().items() if name not in frozen})


def copied(state: "Mapping[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
    """The tensors in memory of their own."""
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}


def load_moving(module: "torch.nn.Module", state: "dict[str, torch.Tensor]") -> None:
    """The inverse of `moving_weights`; what is frozen stays as it is.

    Raises:
        ValueError: something that moves is missing, or the module has no such weight.
    """
    missing, unknown = module.load_state_dict(state, strict=False)
    if wrong := [*unknown, *sorted(set(missing) - frozen_names(module))]:
        raise ValueError(f"The weights are of another model: {', '.join(wrong[:5])} is missing, or not there.")


def frozen_names(module: "torch.nn.Module") -> set[str]:
    """Names of the parameters that get no gradient; of tied ones all."""
    return {name for name, one in module.named_parameters(remove_duplicate=False) if not one.requires_grad}


def optimizer_tensors(optimizer: "torch.optim.Optimizer") -> "dict[str, torch.Tensor]":
    """The optimizer's state as flat named tensors: torch.save would need pickle."""
    import torch

    return {
        f"{number}.{name}": value.detach().cpu().clone() if isinstance(value, torch.Tensor) else torch.tensor(value)
        for number, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }


def load_optimizer(optimizer: "torch.optim.Optimizer", tensors: "dict[str, torch.Tensor]") -> None:
    """The inverse of `optimizer_tensors`; the learning rates and groups stay as they are."""
    states: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        states.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
