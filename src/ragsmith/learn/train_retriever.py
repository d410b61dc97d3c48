"""Training a retriever: batches, loop, gate, saved model."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ragsmith.compute.device import Machine
from ragsmith.learn.checkpoints import weights
from ragsmith.learn.contrastive import ContrastiveSettings, ContrastiveTask, DevSet, dev_score
from ragsmith.learn.gate import gate
from ragsmith.learn.loop import LoopSettings, fit
from ragsmith.learn.training_data import BatchBuilder, training_examples
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.models import model_hash


@dataclass(frozen=True)
class RetrieverSettings:
    """How a retriever is trained.

    Attributes:
        batch_size, negatives, cut_probability: see `BatchBuilder`.
        contrastive, loop: see their classes.
    """

    batch_size: int
    negatives: int
    cut_probability: float
    contrastive: ContrastiveSettings
    loop: LoopSettings


@dataclass(frozen=True)
class RetrieverData:
    """What it is trained on.

    Attributes:
        queries, mined: see `training_examples`.
        passages: passage_id, title, text.
        dev: steers training and decides at the gate.
    """

    queries: pd.DataFrame
    mined: pd.DataFrame
    passages: pd.DataFrame
    dev: DevSet


@dataclass(frozen=True)
class RetrieverRun:
    """What training leaves.

    Attributes:
        model: the finished sentence-transformers folder that ships.
        report: gate table, dev scores by step, steps, examples.
        log: JSONL of every step.
    """

    model: Path
    report: dict[str, Any]
    log: Path


def train_retriever(
    base: Path, data: RetrieverData, settings: RetrieverSettings, machine: Machine, work: Path
) -> RetrieverRun:
    """Tune a bi-encoder with in-batch and mined negatives, and let the gate choose what ships.

    Args:
        base: the model to start from.
        data: see `RetrieverData`.
        settings: see `RetrieverSettings`.
        machine: device and precision.
        work: folder of this training alone; an interrupted run goes on from it.
    Raises:
        ValueError: fewer examples than `batch_size`.
        UntrainedModel: the weights did not change.
    """
    encoder = Encoder.load(base, machine)
    loop, dev = settings.loop, data.dev
    examples = training_examples(data.queries, data.mined)
    builder = BatchBuilder(
        examples, data.passages, settings.batch_size, settings.negatives, settings.cut_probability, loop.seed
    )
    task = ContrastiveTask(encoder, builder, dev, settings.contrastive, model_hash(str(base)))
    untouched = weights(task.module)
    result = fit(task, loop, machine, work / "fit", "retriever")

    def score(candidate: dict[str, Any]) -> float:
        task.module.load_state_dict(candidate)
        return dev_score(encoder, dev)

    state = result.state
    known = {"base": state.scores[0], "last": state.scores[state.step], "best": state.best_score}
    shipped, table = gate(untouched, weights(task.module), result.checkpoints.best(), score, task.metric, known)
    task.module.load_state_dict(shipped)
    task.module.eval()
    folder = work / "model"
    shutil.rmtree(folder, ignore_errors=True)
    encoder.model.save(str(folder), create_model_card=False, safe_serialization=True)
    report = {
        "gate": table,
        "metric": f"dev {task.metric} over a pool of {len(dev.passage_ids)} passages",
        "scores": result.state.scores,
        "steps": result.state.step,
        "stopped_early": result.state.step < loop.epochs * task.batches_per_epoch,
        "examples": len(examples),
        "dev_questions": len(dev.texts),
    }
    return RetrieverRun(folder, report, result.log)
