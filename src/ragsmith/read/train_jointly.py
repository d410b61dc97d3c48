"""Training a reader and a retriever together: models, loop, fresh index, saved folders."""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ragsmith.compute.device import Machine
from ragsmith.learn.checkpoints import weights
from ragsmith.learn.loop import LoopSettings, fit
from ragsmith.read.extractive import ExtractiveReader
from ragsmith.read.generative import GenerativeReader
from ragsmith.read.joint import JointTask
from ragsmith.read.joint_settings import JointQuestion, JointSettings
from ragsmith.read.knowledge_base import KnowledgeBase
from ragsmith.read.live_index import LiveIndex, RefreshSettings
from ragsmith.read.new_reader import merged
from ragsmith.read.training import tune_prior
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.index import DenseIndex, index_model
from ragsmith.retrieve.models import model_hash
from ragsmith.store import hash_json

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class JointPlan:
    """How reader and retriever are trained together.

    Attributes:
        joint, refresh, loop: see their classes.
        prior_weights: of an extractive reader: tried on dev after training, beside the one it was trained with.
    """

    joint: JointSettings
    refresh: RefreshSettings
    loop: LoopSettings
    prior_weights: Sequence[float] = ()


@dataclass(frozen=True)
class JointRun:
    """What joint training leaves.

    Attributes:
        retriever, index, reader: finished folders that belong together; the first two are those given when the
            retriever was not trained.
        report: dev scores by step, steps, refreshes.
        log: JSONL of every step.
    """

    retriever: Path
    index: Path
    reader: Path
    report: dict[str, Any] = field(repr=False)
    log: Path


def train_jointly(
    reader: ExtractiveReader | GenerativeReader,
    base: KnowledgeBase,
    train: Sequence[JointQuestion],
    dev: Sequence[JointQuestion],
    plan: JointPlan,
    machine: Machine,
    work: Path,
) -> JointRun:
    """Train on what the retriever finds, keep the best by dev's exact match, and leave an index that is fresh.

    Args:
        reader: trained in place, from what it was loaded with.
        base: what is searched.
        train, dev: questions with answers.
        plan: see `JointPlan`.
        machine: device and precision.
        work: folder of this training alone; an interrupted run goes on from it.
    Raises:
        ValueError: no dev question, fewer training questions than a batch, questions without answers or about passages
            that are not there, or an index that another model made.
    """
    check_questions(train, dev, base.passages)
    made_by = index_model(base.index)
    if made_by != model_hash(str(base.retriever)):
        raise ValueError(
            f"The index in {base.index} was made by another model than {base.retriever}. Build it again: "
            "kedro run --pipelines retriever_training"
        )
    encoder = Encoder.load(base.retriever, machine, batch_tokens=plan.joint.micro_tokens)
    # Trained and read with the same prior: the softmax of cosines over temperature.
    reader.settings = replace(reader.settings, prior_weight=1 / plan.joint.temperature)
    live = LiveIndex(encoder, DenseIndex.load(base.index), base.passages, plan.refresh, work / "fit" / "index")
    known = hash_json([made_by, state_hash(reader), live.passage_ids, live.texts])
    task = JointTask(reader, live, train, dev, plan.joint, known)
    untouched = weights(task.module)
    fitted = fit(task, plan.loop, machine, work / "fit", "rag")
    best = fitted.checkpoints.best()
    if best is None and fitted.state.scores[fitted.state.step] < fitted.state.scores[0]:
        best = untouched
    if best is not None:
        task.module.load_state_dict(best)
    task.module.eval()
    folders = {name: fresh_folder(work / name) for name in ("retriever", "index", "reader")}
    retriever, index = base.retriever, base.index
    if plan.joint.train_retriever:
        retriever, index = folders["retriever"], folders["index"]
        encoder.model.save(str(retriever), create_model_card=False, safe_serialization=True)
        # Whatever version training ended with: these are the weights that ship.
        vectors = encoder.encode(live.texts, "passage", "index")
        live.searcher.index = DenseIndex(live.passage_ids, vectors)
        live.searcher.index.save(index, model_hash(str(retriever)))
    prior: list[dict[str, float]] = []
    if isinstance(reader, ExtractiveReader):
        tried = sorted({*plan.prior_weights, reader.settings.prior_weight})
        weight, prior = tune_prior(reader, task.examples(dev, task.retrieve(dev)), tried)
        reader.settings = replace(reader.settings, prior_weight=weight)
    if isinstance(reader, GenerativeReader):
        reader.model = merged(reader.model)
    reader.save(folders["reader"])
    state = live.state()
    report = {
        "scores": fitted.state.scores,
        "best_step": fitted.state.best_step,
        "steps": fitted.state.step,
        "examples": len(train),
        "dev_questions": len(dev),
        "objective": plan.joint.objective,
        "prior": prior,
        "prior_weight": reader.settings.prior_weight,
        "index": {name: state[name] for name in ("version", "refreshes", "put_off", "failed", "seconds")},
        "parameters": sum(parameter.numel() for parameter in task.module.parameters()),
    }
    logger.info("rag: dev %s %.4f at step %d", task.metric, fitted.state.best_score, fitted.state.best_step)
    return JointRun(retriever, index, folders["reader"], report, fitted.log)


def check_questions(train: Sequence[JointQuestion], dev: Sequence[JointQuestion], passages: pd.DataFrame) -> None:
    """Refuse questions that cannot be trained on or judged by; all faults at once.

    Raises:
        ValueError: see `train_jointly`.
    """
    faults = []
    if not dev:
        faults.append("there is no dev question with an answer, by which the best weights would be chosen")
    if not train:
        faults.append("there is no training question with an answer")
    for name, questions in (("training", train), ("dev", dev)):
        bare = [question.query_id for question in questions if not any(answer.strip() for answer in question.answers)]
        if bare:
            faults.append(f"{len(bare)} {name} questions have no answer, such as {bare[0]}")
        ids = set(passages["passage_id"])
        lost = [question.query_id for question in questions if question.right - ids]
        if lost:
            faults.append(f"{len(lost)} {name} questions name passages that are not there, such as {lost[0]}")
        if len({question.query_id for question in questions}) < len(questions):
            faults.append(f"{name} questions stand twice: their query_id is not unique")
    if faults:
        raise ValueError(f"Reader and retriever cannot be trained together: {'; '.join(faults)}.")


def state_hash(reader: ExtractiveReader | GenerativeReader) -> str:
    """Hash of a reader's weights and settings."""
    import hashlib

    total = hashlib.sha256(repr(sorted(asdict(reader.settings).items())).encode())
    for name, tensor in sorted(weights(reader.model).items()):
        total.update(f"{name}{tuple(tensor.shape)}".encode())
        total.update(tensor.numpy().tobytes())
    return total.hexdigest()


def fresh_folder(folder: Path) -> Path:
    """An empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
