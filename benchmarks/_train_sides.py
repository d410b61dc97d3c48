"""One side of the training benchmark, in a process of its own: prepare the data, or train and write down the times.

Started by train_retriever.py; its arguments are a JSON object, and so is what it leaves.
"""

import gzip
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ragsmith.compute.device import Machine, probe
from ragsmith.compute.memory import peak_memory
from ragsmith.learn import loop as loop_module
from ragsmith.learn.backends import flagembedding, sentence_transformers
from ragsmith.learn.backends.rows import Row
from ragsmith.learn.contrastive import ContrastiveSettings, DevSet, dev_score
from ragsmith.learn.loop import LoopSettings
from ragsmith.learn.train_retriever import RetrieverData, RetrieverSettings, train_retriever
from ragsmith.learn.training_data import BatchBuilder, training_examples
from ragsmith.retrieve.build import build_index
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.index import DenseIndex
from ragsmith.retrieve.margins import Margins
from ragsmith.retrieve.mine import mine_hard_negatives
from ragsmith.retrieve.mining_data import MiningData, MiningSettings
from ragsmith.retrieve.models import resolve_model
from ragsmith.retrieve.passage_text import passage_inputs

BATCH_SIZE, NEGATIVES = 32, 2
QUERY_TOKENS, PASSAGE_TOKENS = 64, 256
LEARNING_RATE = 5e-5  # as in conf/base


@dataclass(frozen=True)
class Job:
    """What a side is asked to do.

    Attributes:
        side: prepare, ours, sentence_transformers, sentence_transformers_bf16 or flagembedding.
        data: the SQuAD JSON, gzipped.
        folder: tables of all sides.
        work: of this side alone.
        model: to start from.
        device: cpu or cuda.
        steps: optimizer steps.
        dev_questions: held out of training; the score after training is measured on them.
        passages: how many of the data's paragraphs to use; 0 for all.
        seed: of order and dropout.
    """

    side: str
    data: str
    folder: str
    work: str
    model: str
    device: str
    steps: int
    dev_questions: int
    passages: int
    seed: int


class Clock:
    """Notes when each optimizer step ended."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.times: list[float] = []

    def note(self) -> None:
        """A step has ended."""
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()  # what was asked of the device is not what it has done
        self.times.append(time.perf_counter())

    def seconds(self) -> list[float]:
        """From the end of each step to that of the next: data, forward, backward, update and log."""
        return [after - before for before, after in zip(self.times, self.times[1:], strict=False)]

    def callback(self) -> Any:
        """The clock as a callback of the transformers trainer."""
        from transformers import TrainerCallback

        clock = self

        class Stamp(TrainerCallback):
            def on_step_end(self, *_arguments: Any, **_others: Any) -> None:
                clock.note()

        return Stamp()


def prepare(job: Job) -> None:
    """Write passages, training queries, dev questions and mined negatives as tables that all sides read."""
    with gzip.open(job.data, "rt", encoding="utf-8") as file:
        articles = json.load(file)["data"]
    paragraphs = [(article.get("title", ""), paragraph) for article in articles for paragraph in article["paragraphs"]]
    rows, questions = [], {}
    for number, (title, paragraph) in enumerate(paragraphs[: job.passages or None]):
        passage_id = f"p{number}"
        rows.append((passage_id, passage_id, title.replace("_", " "), paragraph["context"].strip()))
        for question in paragraph["qas"]:
            # A question that is asked of two paragraphs has no one right answer: the first counts.
            questions.setdefault(question["question"].strip(), passage_id)
    passages = pd.DataFrame(rows, columns=["passage_id", "document_id", "title", "text"])
    asked = pd.DataFrame(
        [(f"q{number}", text, passage_id, 0, 0) for number, (text, passage_id) in enumerate(questions.items())],
        columns=["query_id", "text", "passage_id", "cut_start", "cut_end"],
    ).sample(frac=1, random_state=0)
    dev, train = asked.iloc[: job.dev_questions], asked.iloc[job.dev_questions :]
    needed = job.steps * BATCH_SIZE
    if len(train) < needed:
        raise ValueError(f"{job.data} has {len(train)} questions to train on, and {job.steps} steps need {needed}.")
    train = train.iloc[:needed]
    folder, model, machine = Path(job.folder), resolve_model(job.model), probe()
    encoder = Encoder.load(model, machine)
    index = DenseIndex.load(build_index(model, passages, machine, 8192, folder / "index_work", ""))
    positives = {query: [passage] for query, passage in zip(train["query_id"], train["passage_id"], strict=True)}
    data = MiningData(train, encoder.encode(train["text"].tolist(), "query"), positives, index, passages)
    # So wide that nobody starves: each query of the benchmark has its two.
    settings = MiningSettings(num_negatives=NEGATIVES, margins=Margins(relaxed=(0.02, 0.0, -10.0)))
    mined = mine_hard_negatives(data, settings, machine).table
    for name, table in (("passages", passages), ("train", train), ("dev", dev), ("mined", mined)):
        table.to_parquet(folder / f"{name}.parquet", index=False)


def tables(job: Job) -> tuple[RetrieverData, RetrieverSettings]:
    """What is trained on, and how: the same for all sides."""
    passages, train, dev, mined = (
        pd.read_parquet(Path(job.folder) / f"{name}.parquet") for name in ("passages", "train", "dev", "mined")
    )
    relevant = [{passage_id} for passage_id in dev["passage_id"]]
    dev_set = DevSet(dev["text"].tolist(), relevant, passages["passage_id"].tolist(), passage_inputs(passages))
    settings = RetrieverSettings(
        BATCH_SIZE,
        NEGATIVES,
        cut_probability=0.0,
        contrastive=ContrastiveSettings(max_query_tokens=QUERY_TOKENS, max_passage_tokens=PASSAGE_TOKENS),
        loop=LoopSettings(epochs=1, learning_rate=LEARNING_RATE, evaluations=1, seed=job.seed),
    )
    return RetrieverData(train, mined, passages, dev_set), settings


def same_rows(data: RetrieverData, settings: RetrieverSettings) -> list[Row]:
    """Our batches as the rows of the others: same queries, positives and negatives, in the same order.

    Raises:
        RuntimeError: a batch of ours has other texts than its rows.
    """
    examples = training_examples(data.queries, data.mined)
    builder = BatchBuilder(examples, data.passages, BATCH_SIZE, NEGATIVES, 0.0, settings.loop.seed)
    texts = dict(zip(data.passages["passage_id"], passage_inputs(data.passages), strict=True))
    by_text = {example.text: example for example in examples}
    rows = []
    for number in range(len(builder)):
        batch = builder.batch(0, number)
        chosen = [by_text[query] for query in batch.queries]
        part = [
            Row(
                example.text,
                texts[example.positive_ids[0]],
                tuple(texts[passage_id] for passage_id in example.negative_ids),
            )
            for example in chosen
        ]
        if {text for row in part for text in (row.positive, *row.negatives)} != set(batch.passages):
            raise RuntimeError(f"Batch {number} of ours has other passages than that of the others.")
        rows += part
    return rows


def tokens_per_step(rows: list[Row], encoder: Encoder) -> list[int]:
    """Tokens of each batch of rows, padding not counted, cut as in training; a text in two rows counts twice."""
    texts = sorted({text for row in rows for text in (row.positive, *row.negatives)})
    lengths = {
        text: min(len(ids), PASSAGE_TOKENS)
        for text, ids in zip(texts, encoder.token_ids(texts, "passage"), strict=True)
    }
    queries = [min(len(ids), QUERY_TOKENS) for ids in encoder.token_ids([row.query for row in rows], "query")]
    totals = [
        query + sum(lengths[text] for text in (row.positive, *row.negatives))
        for query, row in zip(queries, rows, strict=True)
    ]
    return [sum(totals[start : start + BATCH_SIZE]) for start in range(0, len(totals), BATCH_SIZE)]


def train_ours(job: Job, clock: Clock) -> dict[str, Any]:
    """`train_retriever` with its default settings, on the device and in the precision that it finds."""
    data, settings = tables(job)
    if not job.dev_questions:
        # The loop wants a question to be steered by; one is asked before the first step and after the last.
        query = data.queries.iloc[0]
        dev = DevSet([query["text"]], [{query["passage_id"]}], [query["passage_id"]], ["passage"])
        data = replace(data, dev=dev)
    step = loop_module.train_step

    def timed(*arguments: Any) -> dict[str, float]:
        figures = step(*arguments)
        clock.note()
        return figures

    loop_module.train_step = timed  # type: ignore[assignment]
    machine = probe("cuda" if job.device == "cuda" else "cpu")
    run = train_retriever(resolve_model(job.model), data, settings, machine, Path(job.work))
    last = run.report["scores"][run.report["steps"]]  # of the last weights, whatever the gate ships
    return {"precision": machine.precision, "ndcg_at_10": last if job.dev_questions else None}


def train_sentence_transformers(job: Job, clock: Clock, precision: str) -> dict[str, Any]:
    """SentenceTransformerTrainer as it comes."""
    data, settings = tables(job)
    machine, work = Machine(job.device, precision), Path(job.work)
    trainer = sentence_transformers.make_trainer(
        resolve_model(job.model), same_rows(data, settings), settings, machine, work
    )
    trainer.add_callback(clock.callback())
    trainer.train()
    score = None
    if job.dev_questions:
        trainer.model.save(str(work / "model"), create_model_card=False)
        score = dev_score(Encoder.load(work / "model", probe()), data.dev)
    return {"precision": precision, "ndcg_at_10": score}


def train_flagembedding(job: Job, clock: Clock) -> dict[str, Any]:
    """FlagEmbedding's run as it comes: what its module's main does, with a clock."""
    data, settings = tables(job)
    base, machine, work = resolve_model(job.model), Machine(job.device, "fp32"), Path(job.work)
    line = flagembedding.arguments(base, same_rows(data, settings), settings, machine, work)
    from FlagEmbedding.finetune.embedder.encoder_only.base import (
        EncoderOnlyEmbedderDataArguments,
        EncoderOnlyEmbedderModelArguments,
        EncoderOnlyEmbedderRunner,
        EncoderOnlyEmbedderTrainingArguments,
    )
    from transformers import HfArgumentParser

    parser = HfArgumentParser(
        (EncoderOnlyEmbedderModelArguments, EncoderOnlyEmbedderDataArguments, EncoderOnlyEmbedderTrainingArguments)
    )
    model_arguments, data_arguments, training_arguments = parser.parse_args_into_dataclasses(args=line)
    runner = EncoderOnlyEmbedderRunner(
        model_args=model_arguments, data_args=data_arguments, training_args=training_arguments
    )
    runner.trainer.add_callback(clock.callback())
    runner.run()
    score = None
    if job.dev_questions:
        folder = flagembedding.rebuilt(base, work / "weights", work / "model")
        score = dev_score(Encoder.load(folder, probe()), data.dev)
    return {"precision": "fp32", "ndcg_at_10": score}


def main() -> None:
    """Do the job of the first argument and write its result into its work folder."""
    job = Job(**json.loads(sys.argv[1]))
    Path(job.work).mkdir(parents=True, exist_ok=True)
    if job.side == "prepare":
        prepare(job)
        data, settings = tables(job)
        model = Encoder.load(resolve_model(job.model), probe("cpu"))
        layers = sum(
            parameter.numel()
            for name, parameter in model.model.named_parameters()
            if "embeddings" not in name and "pooler" not in name
        )
        result: dict[str, Any] = {
            "tokens": tokens_per_step(same_rows(data, settings), model),
            "layer_parameters": layers,
        }
    else:
        clock = Clock(job.device)
        sides: dict[str, Callable[[], dict[str, Any]]] = {
            "ours": lambda: train_ours(job, clock),
            "sentence_transformers": lambda: train_sentence_transformers(job, clock, "fp32"),
            "sentence_transformers_bf16": lambda: train_sentence_transformers(job, clock, "bf16"),
            "flagembedding": lambda: train_flagembedding(job, clock),
        }
        result = {**sides[job.side](), "seconds": clock.seconds(), "peak_bytes": peak_memory()}
        if job.device == "cuda":
            import torch

            result["peak_gpu_bytes"] = torch.cuda.max_memory_allocated()
    (Path(job.work) / "result.json").write_text(json.dumps(result), "utf-8")


if __name__ == "__main__":
    main()
