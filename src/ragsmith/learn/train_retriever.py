"""Training a retriever: stages, loop, gate, saved model."""

import gc
import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragsmith.compute.device import Machine
from ragsmith.compute.memory import give_back_freed
from ragsmith.compute.ranks import rank, wait_for_all
from ragsmith.learn.checkpoints import load_moving, weights
from ragsmith.learn.contrastive import ContrastiveSettings, ContrastiveTask, dev_score, loss_name, tell_unused_scores
from ragsmith.learn.gate import gate, with_original
from ragsmith.learn.loop import FitResult, LoopSettings, fit
from ragsmith.learn.lora import LoraSettings, add_adapters, merged_weights
from ragsmith.learn.model_card import model_card, settings_told
from ragsmith.learn.stages import RetrieverData, Stage
from ragsmith.learn.trainable import require_trainable
from ragsmith.learn.training_data import BatchBuilder, training_examples
from ragsmith.retrieve.encoder import BATCH_TOKENS, Encoder
from ragsmith.retrieve.models import model_hash
from ragsmith.retrieve.routes import end_in_unit_length, spell_out_prompts
from ragsmith.store import hash_json

if TYPE_CHECKING:
    import torch

    Weights = dict[str, torch.Tensor]

logger = logging.getLogger(__name__)

__all__ = ["RetrieverData", "RetrieverRun", "RetrieverSettings", "Stage", "train_retriever"]


@dataclass(frozen=True)
class RetrieverSettings:
    """How a retriever is trained.

    Attributes:
        batch_size, negatives, cut_probability: see `BatchBuilder`.
        contrastive, loop, lora: see their classes.
        compare_alone: train each stage but the first from the base too, to see what the chain is worth.
        batch_tokens: that are encoded at once for dev, the gate, and mining again.
    """

    batch_size: int
    negatives: int
    cut_probability: float
    contrastive: ContrastiveSettings
    loop: LoopSettings
    lora: LoraSettings = field(default_factory=LoraSettings)
    compare_alone: bool = False
    batch_tokens: int = BATCH_TOKENS


@dataclass(frozen=True)
class RetrieverRun:
    """What training leaves.

    Attributes:
        model: the finished sentence-transformers folder that ships.
        report: gate table, dev scores by step, steps, examples, stages.
        log: JSONL of every step and evaluation, with the stage that it belongs to.
    """

    model: Path
    report: dict[str, Any]
    log: Path


@dataclass(frozen=True)
class StageResult:
    """What a stage leaves.

    Attributes:
        report: name, examples, steps, dev scores by step.
        last, best: plain weights (adapters merged); best is None when nothing beat what the stage started from.
        fitted: log and checkpoints.
    """

    report: dict[str, Any]
    last: "dict[str, torch.Tensor]"
    best: "dict[str, torch.Tensor] | None"
    fitted: FitResult


@dataclass(frozen=True)
class Trained:
    """What a training gives the gate to choose from, and how it came about.

    Attributes:
        untouched, last, best: weights before training, after it, and at their best (None when nothing beat the first).
        known: scores on dev that are known already, by name.
        stages, alone: reports of the stages, and of those that were trained alone for comparison.
    """

    untouched: "Weights"
    last: "Weights"
    best: "Weights | None"
    known: dict[str, float]
    stages: list[dict[str, Any]]
    alone: list[dict[str, Any]] = field(default_factory=list)


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
        ValueError: fewer examples than `batch_size`, a stage without any, or a base that is no transformer
            (`require_trainable`).
        UntrainedModel: the weights did not change.
    """
    encoder = Encoder.load(base, machine, batch_tokens=settings.batch_tokens)
    require_trainable(encoder, base, "retriever_training")
    untouched = weights(encoder.model)
    stages = data.stages or (Stage("all"),)
    reports: list[dict[str, Any]] = []
    logs: list[tuple[str, Path]] = []
    start = untouched
    for number, stage in enumerate(stages[:-1], 1):
        # Only the weights that the next one begins with outlive a stage: the rest is half a gibibyte.
        report, log, best = outcome(train_stage(base, start, stage, data, settings, machine, work / f"fit-{number}"))
        reports.append(report)
        logs.append((stage.name, log))
        start = best if best is not None else start
    final = train_stage(base, start, stages[-1], data, settings, machine, work / f"fit-{len(stages)}")
    reports.append(final.report)
    logs.append((stages[-1].name, final.fitted.log))
    start = final.best if final.best is not None else start
    alone = [
        train_stage(base, untouched, stage, data, settings, machine, work / f"alone-{number}").report
        for number, stage in enumerate(stages, 1)
        if settings.compare_alone and number > 1
    ]
    wait_for_all()
    log = work / "log.jsonl"
    folder = work / "model"
    if rank():  # the first process scores and saves
        return RetrieverRun(folder, {}, log)

    join_logs(logs, log)
    known = {"base": reports[0]["start"]}
    if settings.lora.rank == 0:  # merging adapters rounds: what ships is scored as it ships
        known["last"] = final.fitted.state.scores[final.fitted.state.step]
        if final.best is not None:
            known["best"] = final.fitted.state.best_score
    best = final.best if final.best is not None else (start if start is not untouched else None)
    trained = Trained(untouched, final.last, best, known, reports, alone)
    folder, report = ship(base, encoder, trained, data, "ragsmith", settings_told(settings), work)
    return RetrieverRun(folder, report, log)


def ship(
    base: Path,
    encoder: Encoder,
    trained: Trained,
    data: RetrieverData,
    trainer: str,
    settings: Mapping[str, Any],
    work: Path,
) -> tuple[Path, dict[str, Any]]:
    """Let the gate choose, and save what ships with its card.

    Args:
        base: the model that training began with.
        encoder: of that architecture; its weights become those of a candidate.
        trained: what there is to choose from.
        data, work: as for `train_retriever`.
        trainer, settings: who trained, and by which settings; for the card.
    Returns:
        The finished folder, and the report.
    """
    judge = data.dev if data.judge is None else data.judge
    known = trained.known if data.judge is None else {}

    def score(candidate: dict[str, Any]) -> float:
        encoder.model.load_state_dict(candidate)
        return dev_score(encoder, judge, "gate, passages")

    metric, last = ContrastiveTask.metric, trained.stages[-1]
    shipped, table = gate(trained.untouched, trained.last, trained.best, score, metric, known)
    encoder.model.load_state_dict(shipped)
    if data.original is not None:
        original = Encoder.load(data.original, encoder.machine, batch_tokens=encoder.batch_tokens)
        table = with_original(table, dev_score(original, judge, "gate, passages"), metric)
        encoder = original if table[-1]["shipped"] else encoder
    end_in_unit_length(encoder.model)
    spell_out_prompts(encoder.model)
    encoder.model.eval()
    folder = work / "model"
    shutil.rmtree(folder, ignore_errors=True)
    encoder.model.save(str(folder), create_model_card=False, safe_serialization=True)
    report = {
        "gate": table,
        "trainer": trainer,
        "metric": f"dev {metric} over {len(judge.passage_ids)} of {len(data.passages)} passages",
        "steered_by": len(data.dev.passage_ids),
        "scores": last["scores"],
        "steps": last["steps"],
        "stopped_early": last["stopped_early"],
        "examples": sum(stage["examples"] for stage in trained.stages),
        "dev_questions": len(data.dev.texts),
        "stages": trained.stages,
        "alone": trained.alone,
        "data": data.summary(),
    }
    (folder / "README.md").write_text(model_card(data.original or base, report, settings), "utf-8")
    return folder, report


def outcome(result: StageResult) -> "tuple[dict[str, Any], Path, Weights | None]":
    """The report, the log and the best weights of a stage, and nothing else of it."""
    return result.report, result.fitted.log, result.best


def join_logs(logs: list[tuple[str, Path]], joined: Path) -> None:
    """Write the logs of all stages, by name, as one; each line says which stage it is of."""
    names = [name for name, _ in logs]
    with joined.open("w", encoding="utf-8") as file:
        for number, (name, path) in enumerate(logs, 1):
            # `all`, and `all` again with fresh negatives, are two.
            stage = name if names.count(name) == 1 else f"{name} {number}"
            for line in path.read_text("utf-8").splitlines():
                file.write(json.dumps({"stage": stage, **json.loads(line)}) + "\n")


def train_stage(
    base: Path,
    start: "dict[str, torch.Tensor]",
    stage: Stage,
    data: RetrieverData,
    settings: RetrieverSettings,
    machine: Machine,
    work: Path,
) -> StageResult:
    """One stage, from given weights.

    Args:
        base: the folder whose architecture and tokenizer it has.
        start: plain weights.
        stage, data, settings: see their classes.
        machine, work: as for `train_retriever`.
    """
    gc.collect()  # the stage before has left circles of modules and their gradients
    give_back_freed()
    encoder = Encoder.load(base, machine, batch_tokens=settings.batch_tokens)
    encoder.model.load_state_dict(start)
    loop = replace(
        settings.loop,
        epochs=stage.epochs or settings.loop.epochs,
        learning_rate=stage.learning_rate or settings.loop.learning_rate,
    )
    examples = training_examples(data.queries, data.mined_for(stage, encoder))
    logger.info(
        "%s: %d queries, learning rate %g, epochs %d", stage.name, len(examples), loop.learning_rate, loop.epochs
    )
    if loss_name(settings.contrastive, examples, settings.negatives) == "infonce":
        if settings.contrastive.loss == "infonce":
            why = "loss is infonce"
        elif not settings.negatives:
            why = "negatives is 0, and they are of passages beside each other"
        else:
            why = "loss: auto takes distillation only where all queries have them"
        tell_unused_scores(stage.name, examples, why)
    else:
        examples = [example.with_scored_negatives() for example in examples]
    builder = BatchBuilder(
        examples, data.passages, settings.batch_size, settings.negatives, settings.cut_probability, loop.seed
    )
    if builder.left_out:
        logger.info("%s: %d mined negatives have the text of a right answer: left out", stage.name, builder.left_out)
    if builder.short:
        logger.info(
            "%s: %d of %d queries have fewer than %d negatives of their own",
            stage.name,
            builder.short,
            len(examples),
            settings.negatives,
        )
    # The folder's hash for the prompts, the model's own for the weights that the stage starts from.
    own = [tower.identity() for tower in encoder.different_towers]
    identity = hash_json([model_hash(str(base)), own, asdict(settings.lora)])
    if settings.lora.rank:
        add_adapters(encoder, settings.lora, loop.seed)
    task = ContrastiveTask(encoder, builder, data.dev, settings.contrastive, identity)
    label = "retriever" if len(data.stages) < 2 else f"retriever, {stage.name}"
    fitted = fit(task, loop, machine, work, label)
    last = merged_weights(encoder)
    wait_for_all()  # until the first process has written its best
    best = fitted.checkpoints.best(fitted.state.best_step)
    if best is not None:
        load_moving(encoder.model, best)
        best = merged_weights(encoder)
    report = {
        "name": stage.name,
        "examples": len(examples),
        "short_of_negatives": builder.short,
        "negatives_left_out": builder.left_out,
        "remined": stage.remine,
        "loss": task.loss_name,
        "learning_rate": loop.learning_rate,
        "epochs": loop.epochs,
        "steps": fitted.state.step,
        "stopped_early": fitted.state.step < loop.epochs * (task.batches_per_epoch // loop.accumulation),
        "start": fitted.state.scores[0],
        "best": fitted.state.best_score,
        "scores": fitted.state.scores,
    }
    return StageResult(report, last, best, fitted)
