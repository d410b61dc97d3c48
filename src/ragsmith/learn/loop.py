"""The one training loop, for retriever and readers: set up, check, fit, validate, keep the best."""

import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from ragsmith.compute.device import Machine
from ragsmith.compute.limits import COUNT, NOT_NEGATIVE, POSITIVE, SEED, check_limits
from ragsmith.compute.memory import KeptMemory, freed_memory_kept, give_back_freed, is_out_of_memory
from ragsmith.compute.progress import progress
from ragsmith.compute.ranks import OutOfMemory, add_gradients, of_first, rank, together, wait_for_all
from ragsmith.learn.checkpoints import Checkpoints, TrainingState
from ragsmith.learn.run_log import run_log, unrecorded
from ragsmith.retrieve.encoder import VectorError
from ragsmith.store import current_provenance, hash_json

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

Schedule = Literal["cosine", "linear", "polynomial", "constant"]
Optimizer = Literal["adamw", "adam"]
OF_THE_LAST_STEP = ("index_version",)  # figures that the line of an epoch repeats
LIMITS = {
    "epochs": COUNT,
    "learning_rate": NOT_NEGATIVE,
    "warmup": NOT_NEGATIVE,
    "weight_decay": NOT_NEGATIVE,
    "clip": POSITIVE,
    "evaluations": COUNT,
    "patience": COUNT,
    "min_delta": NOT_NEGATIVE,
    "checkpoint_seconds": NOT_NEGATIVE,
    "seed": SEED,
    "schedule": get_args(Schedule),
    "accumulation": COUNT,
    "optimizer": get_args(Optimizer),
}


@dataclass(frozen=True)
class LoopSettings:
    """How long and how fast to train.

    Attributes:
        epochs: passes over the data.
        learning_rate: peak of the schedule, reached after a linear warm-up.
        warmup: share of all steps when below 1, else their number (as transformers' `warmup_steps`).
        schedule: how the rate falls to zero afterwards; `polynomial` is quadratic, `constant` stays.
        accumulation: batches whose gradients make one step.
        optimizer: `adam` is AdamW without decay.
        weight_decay: of AdamW, not applied to biases and norms.
        clip: largest norm of the gradient.
        evaluations: dev evaluations per epoch.
        patience: evaluations without a gain after which training stops.
        min_delta: a smaller gain does not count.
        checkpoint_seconds: at most this much work is lost to `kill -9`.
        seed: decides order and dropout.
    Raises:
        ValueError: an unknown choice, or a number out of its bounds; all faults in one message.
    """

    epochs: int
    learning_rate: float
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0
    evaluations: int = 2
    patience: int = 3
    min_delta: float = 0.0
    checkpoint_seconds: float = 60.0
    seed: int = 0
    schedule: Schedule = "cosine"
    accumulation: int = 1
    optimizer: Optimizer = "adamw"

    def __post_init__(self) -> None:
        check_limits(self, LIMITS)

    @property
    def decay(self) -> float:
        """Of the optimizer: none in Adam."""
        return self.weight_decay if self.optimizer == "adamw" else 0.0


class Task(Protocol):
    """What the loop trains. Batches depend on epoch and number alone, so that a resumed run sees the same ones.

    Attributes:
        module: whose parameters are trained, unless they are frozen.
        metric: name of the dev score.
        batches_per_epoch: batches that `loss` knows.
        rate_factors: parts of the learning rate, by the beginning of a parameter's name; others have all of it.
    """

    module: "torch.nn.Module"
    metric: str
    batches_per_epoch: int
    rate_factors: Mapping[str, float]

    def identity(self) -> str:
        """Hash of the data, the base weights and all settings of the task."""

    def loss(self, epoch: int, number: int) -> "tuple[torch.Tensor, dict[str, float]]":
        """Loss of one batch, and figures to log."""

    def evaluate(self) -> tuple[float, dict[str, float]]:
        """The dev score, higher is better, of the weights as they are; and figures to log."""

    def shrink(self) -> bool:
        """Need less memory from now on, for the same gradients; False when that cannot be."""

    def state(self) -> dict[str, Any]:
        """What the task keeps between steps beside the weights, as JSON; called when a checkpoint is written."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave; from nothing at the beginning."""


class PlainTask:
    """A task of one learning rate that keeps nothing between steps."""

    rate_factors: Mapping[str, float] = {}

    def state(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Nothing is kept."""


@dataclass(frozen=True)
class FitResult:
    """What `fit` leaves: the module holds the last weights, `checkpoints` the best.

    Attributes:
        state: place, best score and all dev scores; step 0 is the model before training.
        log: JSONL, one object per step and evaluation.
        tensorboard: event files.
    """

    state: TrainingState
    checkpoints: Checkpoints
    log: Path
    tensorboard: Path


def fit(task: Task, settings: LoopSettings, machine: Machine, work: Path, label: str) -> FitResult:
    """Train until the epochs are done or dev stops gaining; continue where a killed run of the same identity stood.

    Several processes (`compute.ranks`) train in step: their gradients are added, the first evaluates and writes.
    A resumed run gives the same losses and weights as an undisturbed one: order and dropout are functions of seed,
    epoch and step, and weights and optimizer are restored bit by bit.

    Args:
        task: module, batches and dev score.
        settings: length and speed.
        machine: device and precision.
        work: folder of this run alone, kept until the next one.
        label: for progress and log.
    Raises:
        ValueError: the task has no batch.
        FloatingPointError: the loss or its gradient is not finite.
        MemoryError: there is too little, and the task cannot do with less.
    """
    steps_per_epoch = task.batches_per_epoch // settings.accumulation
    if steps_per_epoch < 1:
        raise ValueError(
            f"{label}: there is no whole batch to train on, or fewer than make one step. Lower batch_size or "
            "accumulation, or add data."
        )
    total = settings.epochs * steps_per_epoch
    every = max(1, steps_per_epoch // settings.evaluations)
    identity = hash_json(
        {
            "task": task.identity(),
            "settings": asdict(settings),
            "machine": asdict(machine),
            # Within a run, changed code starts anew as changed data does; a notebook has no such fingerprint.
            "step": provenance.fingerprint if (provenance := current_provenance()) else None,
        }
    )
    optimizer = make_optimizer(task.module, settings, task.rate_factors)
    checkpoints = Checkpoints(work, identity)
    first = rank() == 0
    if not first:
        wait_for_all()  # until the first has put in order what a killed run left
    state = checkpoints.resume(task.module, optimizer, owner=first)
    task.restore(state.task)
    if first:
        wait_for_all()
        if state.step:
            logger.info("%s: resumed at step %d of %d", label, state.step, total)
    log = run_log(work, state.step) if first else nullcontext(unrecorded)
    with (
        trained_vectors(state),
        freed_memory_kept(),
        log as record,
        progress(label if first else "", total) as advance,
    ):
        advance(state.step)
        if not state.scores:
            note_score(task, state, settings, checkpoints, record, label)
        saved, kept = time.monotonic(), KeptMemory()
        while not state.finished:
            epoch, number = divmod(state.step, steps_per_epoch)
            figures = train_step(task, optimizer, settings, machine, epoch, number, total)
            state.step += 1
            state.epoch_loss += figures["loss"]
            record("train", state.step, figures)
            if number == steps_per_epoch - 1:
                last = {name: figures[name] for name in OF_THE_LAST_STEP if name in figures}
                record("epoch", state.step, {"epoch": epoch + 1, "loss": state.epoch_loss / steps_per_epoch, **last})
                state.epoch_loss = 0.0
            kept.after_step()
            advance(1)
            at_end = state.step == total
            # The last regular evaluation gives way to the one at the end, a few steps later.
            evaluated = at_end or (state.step % every == 0 and total - state.step >= every)
            if evaluated:
                note_score(task, state, settings, checkpoints, record, label)
                state.finished = at_end or state.stale >= settings.patience
            if first and (evaluated or time.monotonic() - saved > settings.checkpoint_seconds):
                state.task = task.state()
                checkpoints.save(task.module, optimizer, state)
                saved = time.monotonic()
    return FitResult(state, checkpoints, work / "log.jsonl", work / "tensorboard")


def train_step(
    task: Task,
    optimizer: "torch.optim.Optimizer",
    settings: LoopSettings,
    machine: Machine,
    epoch: int,
    number: int,
    total: int,
) -> dict[str, float]:
    """One optimizer step; returns its figures, the means over its batches."""
    import torch

    step = epoch * (task.batches_per_epoch // settings.accumulation) + number
    task.module.train()
    rate = settings.learning_rate * schedule(step, total, settings.warmup, settings.schedule)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate_factor"]
    while True:
        optimizer.zero_grad(set_to_none=True)
        # Dropout is a function of seed and step: nothing of the generator needs saving.
        machine.seed((settings.seed * 1_000_003 + step) * 1_009 + rank())
        try:
            batches = []
            with together():
                for part in range(settings.accumulation):
                    loss, figures = task.loss(epoch, number * settings.accumulation + part)
                    require_finite("loss", loss.item(), step)
                    (loss / settings.accumulation).backward()  # type: ignore[no-untyped-call]
                    batches.append({"loss": loss.item(), **figures})
            break
        except OutOfMemory as error:
            if not task.shrink():
                raise OutOfMemory(
                    f"There is too little memory for step {step}, even in the smallest parts. Lower batch_size, the "
                    "number of passages or of negatives, or the tokens of each; or close other programs. What was "
                    f"said: {error}"
                ) from error
        # What the attempt had computed hung on the error and is freed by now, but kept for blocks of its sizes, where
        # smaller parts ask for others.
        give_back_freed()
    add_gradients(task.module)
    norm = torch.nn.utils.clip_grad_norm_(task.module.parameters(), settings.clip)
    require_finite("norm of the gradient", float(norm), step)  # before the weights are lost to it
    try:
        with together():
            optimizer.step()
    except OutOfMemory as error:
        # Not tried again: some of the weights may have been changed already.
        raise OutOfMemory(
            f"There is too little memory for the optimizer at step {step}: it keeps two numbers for each weight. "
            "Train adapters alone (lora.rank), take a smaller model, or close other programs."
        ) from error
    means = {name: sum(batch[name] for batch in batches) / len(batches) for name in batches[0]}
    return {"loss": means.pop("loss"), "learning_rate": rate, "gradient_norm": float(norm), **means}


def require_finite(name: str, value: float, step: int) -> None:
    """Raise FloatingPointError where a training has come off the rails."""
    if not math.isfinite(value):
        raise FloatingPointError(f"The {name} is {value} at step {step}. {way_back(step)}")


def way_back(step: int) -> str:
    """What to do where the numbers of a training are none any more."""
    # Before the first step nothing has been learned that the learning rate could have spoilt.
    advice = (
        "Lower learning_rate"
        if step
        else "The weights it began from hold numbers that are none, or a setting is too small, such as temperature: "
        "look at the base model"
    )
    return (
        f"{advice}, or set compute.precision to fp32 in globals.yml; training then starts from its beginning, for all "
        "of these decide what comes out."
    )


@contextmanager
def trained_vectors(state: TrainingState) -> Iterator[None]:
    """Raise FloatingPointError, with what training has to do with it, where the trained encoder gives no numbers."""
    try:
        yield
    except VectorError as error:
        raise FloatingPointError(
            f"After step {state.step} the vectors of the encoder that is trained are no numbers (NaN or infinite). "
            f"{way_back(state.step)}"
        ) from error


def note_score(
    task: Task, state: TrainingState, settings: LoopSettings, checkpoints: Checkpoints, record: Any, label: str
) -> None:
    """Evaluate on dev and keep the weights if they are the best so far."""
    task.module.eval()
    try:
        score, figures = task.evaluate() if rank() == 0 else (0.0, {})
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"There is too little memory to ask the dev questions after step {state.step}. Close other programs, or "
            "take a smaller model; the training goes on from its last checkpoint."
        ) from error
    score = of_first(score, str(next(task.module.parameters()).device))
    state.scores[state.step] = score
    record("dev", state.step, {task.metric: score, **figures})
    gained = score > state.best_score + settings.min_delta if state.step else True
    logger.info("%s: step %d, dev %s %.4f%s", label, state.step, task.metric, score, " (best)" if gained else "")
    if gained:
        state.best_score, state.best_step, state.stale = score, state.step, 0
        if state.step and rank() == 0:
            checkpoints.save_best(task.module, state.step)
    else:
        state.stale += 1


def schedule(step: int, total: int, warmup: float, kind: Schedule = "cosine") -> float:
    """Share of the peak learning rate at a step: linear warm-up, then down to zero as `kind` says.

    >>> [schedule(step, 5, 0.2, "linear") for step in range(5)]
    [1.0, 1.0, 0.75, 0.5, 0.25]
    >>> [schedule(step, 5, 2, "linear") for step in range(5)]
    [0.5, 1.0, 1.0, 0.6666666666666667, 0.33333333333333337]
    """
    rising = max(1, round(total * warmup if warmup < 1 else warmup))
    if step < rising:
        return (step + 1) / rising
    done = (step - rising) / max(1, total - rising)
    falls = {"cosine": 0.5 * (1 + math.cos(math.pi * done)), "linear": 1 - done, "polynomial": (1 - done) ** 2}
    return falls.get(kind, 1.0)


def make_optimizer(
    module: "torch.nn.Module", settings: LoopSettings, factors: Mapping[str, float] | None = None
) -> "torch.optim.Optimizer":
    """AdamW (Loshchilov and Hutter 2019), in one pass over the weights; vectors (biases, norms) are not decayed.

    Args:
        module: its parameters that are not frozen are trained.
        settings: learning rate and decay.
        factors: see `Task.rate_factors`.
    """
    import torch

    groups: dict[tuple[float, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            factor = next((value for start, value in (factors or {}).items() if name.startswith(start)), 1.0)
            groups.setdefault((factor, parameter.ndim > 1), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "weight_decay": settings.decay * decayed, "rate_factor": factor}
            for (factor, decayed), parameters in groups.items()
        ],
        lr=settings.learning_rate,
        fused=True,
    )
