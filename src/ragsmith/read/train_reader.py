"""Training a reader: examples, loop, prior, saved model."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ragsmith.compute.device import Machine
from ragsmith.compute.ranks import refuse_several
from ragsmith.learn.checkpoints import weights
from ragsmith.learn.embedding import set_dropout
from ragsmith.learn.loop import LoopSettings, fit
from ragsmith.read.extractive import ExtractiveReader, ReaderSettings
from ragsmith.read.training import ReaderTask, ReadingExample, tune_prior
from ragsmith.retrieve.models import model_hash
from ragsmith.store import hash_json


@dataclass(frozen=True)
class ReaderPlan:
    """How a reader is trained.

    Attributes:
        reader: its settings; the prior weight is replaced by the best of `prior_weights`.
        batch_size: questions in a batch.
        prior_weights: tried on dev after training.
        loop: length and speed.
        dropout: share of activations dropped; None takes the model's own, which costs a quarter of the time on a
            processor.
    """

    reader: ReaderSettings
    batch_size: int
    prior_weights: Sequence[float]
    loop: LoopSettings
    dropout: float | None = None


@dataclass(frozen=True)
class ReaderRun:
    """What training leaves: the finished folder, the report (dev scores, prior), and the log of every step."""

    model: Path
    report: dict[str, Any]
    log: Path


def train_reader(
    base: Path,
    examples: Sequence[ReadingExample],
    dev: Sequence[ReadingExample],
    plan: ReaderPlan,
    machine: Machine,
    work: Path,
) -> ReaderRun:
    """Train an extractive reader from an encoder, and weigh its passage prior on dev.

    Args:
        base: an encoder's folder; its question-answering head starts untrained.
        examples: training questions, each with its right passage among those it reads.
        dev: questions with the passages that were really retrieved.
        plan: see `ReaderPlan`.
        machine: device and precision.
        work: folder of this training alone; an interrupted run goes on from it.
    Raises:
        ValueError: fewer examples than `batch_size`, or no dev question, or this is one of several processes.
    """
    refuse_several("Training a reader")
    if not dev:
        raise ValueError("There is no dev question with an answer: the reader could not be judged. Add dev questions.")
    # While training, the prior stays out: the head is to learn what the retriever does not know.
    reader = ExtractiveReader.load(base, replace(plan.reader, prior_weight=0.0), machine)
    set_dropout(reader.model, plan.dropout)
    identity = hash_json([model_hash(str(base)), plan.dropout])
    task = ReaderTask(reader, examples, dev, plan.batch_size, plan.loop.seed, identity)
    untouched = weights(task.module)
    result = fit(task, plan.loop, machine, work / "fit", "reader")
    best = result.checkpoints.best()
    if best is None and result.state.scores[result.state.step] < result.state.scores[0]:
        best = untouched  # a base that could read already, and that training made worse
    if best is not None:
        task.module.load_state_dict(best)
    weight, table = tune_prior(reader, dev, plan.prior_weights)
    final = reader.with_settings(replace(plan.reader, prior_weight=weight))
    folder = work / "model"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    final.save(folder)
    report = {
        "scores": result.state.scores,
        "best_step": result.state.best_step,
        "steps": result.state.step,
        "examples": len(examples),
        "dev_questions": len(dev),
        "prior": table,
        "prior_weight": weight,
    }
    return ReaderRun(folder, report, result.log)
