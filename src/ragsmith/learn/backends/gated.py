"""Another trainer in the place of our own, judged by the same gate."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

from ragsmith.compute.device import Machine
from ragsmith.learn.backends import flagembedding, sentence_transformers
from ragsmith.learn.checkpoints import weights
from ragsmith.learn.contrastive import ContrastiveTask, dev_score, tell_unused_scores
from ragsmith.learn.stages import RetrieverData
from ragsmith.learn.train_retriever import RetrieverRun, RetrieverSettings, Trained, ship
from ragsmith.learn.training_data import training_examples
from ragsmith.retrieve.encoder import Encoder

# How each trains, and by which of our settings.
TRAINERS = {
    "sentence_transformers": (sentence_transformers.train, sentence_transformers.taken),
    "flagembedding": (flagembedding.train, flagembedding.taken),
}


def train_by(
    backend: Literal["sentence_transformers", "flagembedding"],
    base: Path,
    data: RetrieverData,
    settings: RetrieverSettings,
    machine: Machine,
    work: Path,
) -> RetrieverRun:
    """`train_retriever` with the field's own trainer: the same examples, the same gate, the same report.

    It has no dev score on the way, no early stopping and no resumption: a killed run begins anew.

    Args:
        backend: whose trainer.
        base, data, settings, machine, work: as for `train_retriever`; adapters are not looked at.

    Raises:
        ValueError: the base encodes queries and passages with two encoders, or there are several stages.
    """
    if len(data.stages) > 1:
        raise ValueError(f"{backend} trains one stage, and {len(data.stages)} are asked for.")
    rates = [stage.learning_rate for stage in data.stages if stage.learning_rate]
    if rates:  # structural queries alone have one of their own
        settings = replace(settings, loop=replace(settings.loop, learning_rate=rates[0]))
    encoder = Encoder.load(base, machine, batch_tokens=settings.batch_tokens)
    if len(encoder.different_towers) > 1:
        raise ValueError(
            f"retriever_training.backend is {backend}, which trains one encoder, and {base} has one for queries and "
            "another for passages. Set backend to native."
        )
    examples = training_examples(data.queries, data.mined)
    tell_unused_scores(backend, examples, "this trainer is run with InfoNCE alone")
    train, taken = TRAINERS[backend]
    folder = train(base, examples, data.passages, settings, machine, work / backend)
    untouched = weights(encoder.model)
    tuned = weights(Encoder.load(folder, machine).model)
    batches = settings.loop.epochs * (len(examples) // settings.batch_size)
    steps = -(-batches // settings.loop.accumulation)  # they make a step of the rest too
    scores = {0: dev_score(encoder, data.dev)}
    encoder.model.load_state_dict(tuned)
    scores[steps] = dev_score(encoder, data.dev)
    stage = {
        "name": backend,
        "examples": len(examples),
        "remined": False,
        "loss": "infonce",
        "learning_rate": settings.loop.learning_rate,
        "epochs": settings.loop.epochs,
        "steps": steps,
        "stopped_early": False,
        "start": scores[0],
        "best": max(scores.values()),
        "scores": scores,
    }
    work.mkdir(parents=True, exist_ok=True)
    log = work / f"{backend}.jsonl"
    lines = [{"kind": "dev", "step": step, ContrastiveTask.metric: score} for step, score in scores.items()]
    lines.append({"kind": "train", "step": steps, "loss": None})
    log.write_text("".join(json.dumps({"stage": backend, **line}) + "\n" for line in lines), "utf-8")
    trained = Trained(untouched, tuned, None, {"base": scores[0], "last": scores[steps]}, [stage])
    model, report = ship(base, encoder, trained, data, backend, taken(settings), work)
    return RetrieverRun(model, report, log)
