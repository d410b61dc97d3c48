"""Training a reader, alone or with its retriever: models, loop, fresh index, saved folders."""

import hashlib
import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragsmith.compute.device import Machine
from ragsmith.compute.ranks import refuse_several
from ragsmith.learn.checkpoints import load_moving, moving_weights
from ragsmith.learn.loop import FitResult, LoopSettings, fit
from ragsmith.learn.trainable import require_trainable
from ragsmith.read.dev_answers import tune_prior
from ragsmith.read.extractive import ExtractiveReader
from ragsmith.read.generative import GenerativeReader
from ragsmith.read.instructive import check_questions, instructive
from ragsmith.read.knowledge_base import KnowledgeBase
from ragsmith.read.live_index import LiveIndex, RefreshSettings
from ragsmith.read.new_reader import merged
from ragsmith.read.rag_settings import RagQuestion, RagSettings
from ragsmith.read.rag_task import RagTask
from ragsmith.read.readers import Reader
from ragsmith.read.workers import check_worker
from ragsmith.retrieve.build import maker_of_index
from ragsmith.retrieve.encoder import Encoder, load_sentence_transformer
from ragsmith.retrieve.identity import add_weights, settings_text, tokenizer_text
from ragsmith.retrieve.index import DenseIndex
from ragsmith.retrieve.models import model_hash
from ragsmith.retrieve.route_files import mark_passage_model, passage_model
from ragsmith.retrieve.routes import KINDS, separated, spell_out_prompts
from ragsmith.store import hash_json

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RagPlan:
    """How reader and retriever are trained together.

    Attributes:
        settings, refresh, loop: see their classes.
        prior_weights: of an extractive reader: tried on dev after training, beside the one it was trained with, if
            any; the first of equals is taken.
    """

    settings: RagSettings
    refresh: RefreshSettings
    loop: LoopSettings
    prior_weights: Sequence[float] = ()


@dataclass(frozen=True)
class RagRun:
    """What RAG training leaves.

    Attributes:
        retriever, index, reader: finished folders that belong together; the first two are those given when the
            retriever was not trained, and so is the index when the encoder of questions was trained alone.
        report: dev scores by step, steps, refreshes.
        log: JSONL of every step.
    """

    retriever: Path
    index: Path
    reader: Path
    report: dict[str, Any] = field(repr=False)
    log: Path


def train_rag(
    reader: Reader,
    base: KnowledgeBase,
    train: Sequence[RagQuestion],
    dev: Sequence[RagQuestion],
    plan: RagPlan,
    machine: Machine,
    work: Path,
) -> RagRun:
    """Train on what the retriever finds, keep the best by dev's exact match, and leave an index that is fresh.

    Args:
        reader: trained in place, from what it was loaded with.
        base: what is searched.
        train, dev: questions with answers.
        plan: see `RagPlan`.
        machine: device and precision.
        work: folder of this training alone; an interrupted run goes on from it.
    Raises:
        ValueError: the loop and the settings accumulate different numbers of batches, no dev question, fewer training
            questions than a batch, questions without answers or about passages
            that are not there, a knowledge base with empty texts or double ids, an index that another model made, an
            extractive reader and no answer that is a span, or a retriever that is to be trained and is no transformer
            (`require_trainable`); or this is one of several processes.
        ModuleNotFoundError, ConnectionError: refreshes are for Ray, which is not installed, or not to be found.
        Exception: the passages could not be encoded by what was trained (`LiveIndex.encode`): nothing is saved.
    """
    refuse_several("Training a reader")
    if plan.loop.accumulation != plan.settings.accumulation:
        raise ValueError(
            f"The loop makes a step of {plan.loop.accumulation} batches and the settings count "
            f"{plan.settings.accumulation} (accumulation): give both the same."
        )
    if plan.settings.encoders == "both":
        check_worker(plan.refresh.background)
    check_questions(train, dev, base.passages)
    made_by = maker_of_index(base.index, base.retriever)
    model = load_sentence_transformer(base.retriever)
    if plan.settings.encoders == "questions":
        model = separated(model)
    encoder = Encoder(model, machine, batch_tokens=plan.settings.micro_tokens)
    if plan.settings.encoders != "none":
        require_trainable(encoder, base.retriever, "rag_training")
    reader.settings = replace(reader.settings, prior_weight=trained_prior(reader, plan.settings))
    if isinstance(reader, ExtractiveReader) and reader.untrained and not plan.settings.train_reader:
        logger.warning(
            "No reader is trained, and the one that ships finds answers by chance: it is an encoder with a new head. "
            "Give one that was trained (models.reader), or train it too (rag_training.mode: end2end)."
        )
    live = LiveIndex(encoder, DenseIndex.load(base.index), base.passages, plan.refresh, work / "fit" / "index")
    known = hash_json([model_hash(str(base.retriever)), made_by, state_hash(reader), live.passage_ids, live.texts])
    given = len(train)
    train, spanless, unanswered = instructive(reader, train, live, plan.settings)
    task = RagTask(reader, live, train, dev, plan.settings, known)
    untouched = moving_weights(task.module)
    try:
        fitted = fit(task, plan.loop, machine, work / "fit", "rag")
    finally:
        live.stop()  # a notebook lives on after an error, and the process with it
    step = load_best(task, fitted, untouched)
    task.module.eval()
    folders = {name: fresh_folder(work / name) for name in ("retriever", "index", "reader")}
    retriever, index, gate = base.retriever, base.index, []
    if plan.settings.encoders != "none":
        gate = choose_retriever(task, untouched)
        if gate[1]["shipped"]:
            retriever = folders["retriever"]
            spell_out_prompts(encoder.model)
            encoder.model.save(str(retriever), create_model_card=False, safe_serialization=True)
            if task.index_ages:
                index = folders["index"]
                live.searcher.index.save(index, passage_model(retriever))
            else:
                mark_passage_model(retriever, made_by)
    prior = choose_prior(reader, task, plan) if isinstance(reader, ExtractiveReader) else []
    if isinstance(reader, GenerativeReader):
        reader.model = merged(reader.model)
        reader.targets([""])  # as above: the last call is the same, whether it was killed before or not
    reader.save(folders["reader"])
    report = {
        "scores": fitted.state.scores,
        "best_step": step,
        "steps": fitted.state.step,
        "examples": len(train),
        "without_span": spanless,
        "without_answer": unanswered,
        "left_out": given - len(train),
        "unjudged": sum(not question.judged for question in train),
        "dev_questions": len(dev),
        "encoders": plan.settings.encoders,
        "objective": plan.settings.objective,
        "gate": gate,
        "prior": prior,
        "prior_weight": reader.settings.prior_weight,
        "index": {name: getattr(live, name) for name in ("version", "refreshes", "put_off", "failed", "seconds")},
        "parameters": sum(one.numel() for model in (encoder.model, reader.model) for one in model.parameters()),
    }
    say_what_ships(task, fitted.state.scores[step], step)
    return RagRun(retriever, index, folders["reader"], report, fitted.log)


def load_best(task: RagTask, fitted: FitResult, untouched: "dict[str, torch.Tensor]") -> int:
    """Let the module hold the weights that dev likes best, and say of which step they are.

    Where no step beat the beginning, the last ones if they are as good, for they have seen more; else `untouched`.
    """
    state = fitted.state
    best, scores, last = fitted.checkpoints.best(state.best_step), state.scores, state.step
    if best is not None:
        load_moving(task.module, best)
        return state.best_step
    if scores[last] >= scores[0]:
        return last
    load_moving(task.module, untouched)
    return 0


def say_what_ships(task: RagTask, score: float, step: int) -> None:
    """Log the dev score, and warn of a reader or a retriever that does nothing right."""
    logger.info("rag: dev %s %.4f at step %d", task.metric, score, step)
    if not score:
        logger.warning(
            "What ships has a dev %s of 0, on %d questions: train longer (epochs), raise learning_rate, or begin with "
            "a model that has been trained before.",
            task.metric,
            len(task.dev),
        )


def trained_prior(reader: Reader, settings: RagSettings) -> float:
    """Weight of the cosines that a reader is trained with, and read with meanwhile.

    It is one over the temperature of the softmax over passages; an extractive reader has it in `marginal` alone.
    """
    return 1 / settings.temperature if settings.weighs_spans or not isinstance(reader, ExtractiveReader) else 0.0


def choose_retriever(task: RagTask, untouched: "dict[str, torch.Tensor]") -> list[dict[str, Any]]:
    """Keep the trained retriever unless the one before answers more dev questions with the same reader.

    Of two that answer as many, the one that finds more right passages stays; of two that are equal in that as well,
    the trained one, unless no step beat the beginning.

    Args:
        task: with the weights that shall ship; afterwards with the chosen retriever and its index.
        untouched: what training may change, as it was before.
    Returns:
        Two rows, the retriever before training and the trained one: name, dev scores, what shows a collapse (see
        `RagTask.dev_score`), whether it ships.
    """
    module, live = task.module.get_submodule("retriever"), task.index
    before = {
        name.removeprefix("retriever."): tensor for name, tensor in untouched.items() if name.startswith("retriever.")
    }
    # Whatever version training ended with: these are the weights that would ship. A tokenizer is saved with the limit
    # of its last call, which would be another one in a run that was killed just before: encode last, then save.
    trained, fresh = moving_weights(module), live.start
    if task.index_ages:
        fresh = live.start.with_vectors(live.encode("index"))
    rows = []
    for name, state, index in (("before", before, live.start), ("trained", trained, fresh)):
        load_moving(module, state)
        live.searcher.index = index
        score, figures = task.dev_score()
        rows.append({"name": name, task.metric: score, "recall": score, **figures})
    better = [(row[task.metric], row["recall"]) for row in rows]
    # Where no step beat the beginning, both are the same weights: the folder that is there ships, and not a copy.
    moved = any(not tensor.equal(before[name]) for name, tensor in trained.items())
    ships = moved and better[1] >= better[0]
    if moved and not ships:
        logger.warning(
            "The retriever stays as it was: trained, it gives dev %s %.4f, and before %.4f with the same reader.",
            task.metric,
            better[1][0],
            better[0][0],
        )
    if not ships:
        load_moving(module, before)
        live.searcher.index = live.start
    for kind in KINDS:
        live.encoder.token_ids([""], kind)
    return [row | {"shipped": (row["name"] == "trained") == ships} for row in rows]


def choose_prior(reader: ExtractiveReader, task: RagTask, plan: RagPlan) -> list[dict[str, float]]:
    """Give the reader the weight of the prior that answers most dev questions; the table of `tune_prior`."""
    tried = list(plan.prior_weights)
    if plan.settings.weighs_spans or not tried:
        tried.append(reader.settings.prior_weight)
    examples = task.examples(task.dev, task.retrieve(task.dev))
    weight, table = tune_prior(reader, examples, list(dict.fromkeys(tried)))
    reader.settings = replace(reader.settings, prior_weight=weight)
    return table


def state_hash(reader: Reader) -> str:
    """Hash of all that decides what a reader computes: settings, tokenizer, configuration, adapters and weights."""
    total = hashlib.sha256(repr(sorted(asdict(reader.settings).items())).encode())
    total.update(tokenizer_text(reader.tokenizer).encode())
    total.update(settings_text(reader.model).encode())
    add_weights(total, reader.model)
    return total.hexdigest()


def fresh_folder(folder: Path) -> Path:
    """An empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
