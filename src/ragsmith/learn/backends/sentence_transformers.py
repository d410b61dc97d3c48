"""Training with SentenceTransformerTrainer, as it comes."""

import importlib.util
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ragsmith.compute.device import Machine
from ragsmith.learn.backends.rows import SCHEDULES, Row, taken_by_both, training_rows
from ragsmith.learn.train_retriever import RetrieverSettings
from ragsmith.learn.training_data import Example
from ragsmith.retrieve.encoder import Encoder

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformerTrainer

INSTALL = "pip install 'ragsmith[trainer]'"


def train(
    base: Path,
    examples: list[Example],
    passages: pd.DataFrame,
    settings: RetrieverSettings,
    machine: Machine,
    work: Path,
) -> Path:
    """The model after training with sentence-transformers' own trainer and MultipleNegativesRankingLoss.

    What is ours is mapped to theirs: temperature, batch size, negatives, epochs, rates and their schedule,
    accumulation, decay, clip, seed, bf16. The rest is as it comes: the model's own dropout, one length for queries and
    passages, in-batch duplicates not masked. There is no evaluation on the way, no gate and no resumption.

    Args:
        base: the model to start from, a sentence-transformers folder.
        examples, passages: see `training_rows`.
        settings: see `RetrieverSettings`.
        machine: device; precision `bf16` turns on their mixed precision.
        work: folder of this training alone.
    Returns:
        A sentence-transformers folder in `work`, weights as safetensors.
    Raises:
        ModuleNotFoundError: accelerate or datasets is missing.
        ValueError: see `training_rows`.
    """
    require()
    rows = training_rows(examples, passages, settings, Encoder.load(base, machine))
    trainer = make_trainer(base, rows, settings, machine, work)
    trainer.train()
    folder = work / "model"
    shutil.rmtree(folder, ignore_errors=True)
    trainer.model.eval()
    trainer.model.save(str(folder), create_model_card=False, safe_serialization=True)
    return folder


def taken(settings: RetrieverSettings) -> dict[str, Any]:
    """Those of our settings that their trainer goes by, beside epochs and rate."""
    return {**taken_by_both(settings), "max_tokens": longest(settings)}


def longest(settings: RetrieverSettings) -> int:
    """Tokens at which queries and passages are cut: there is one limit for both."""
    return max(settings.contrastive.max_query_tokens, settings.contrastive.max_passage_tokens)


def require() -> None:
    """Refuse to begin without what their trainer needs.

    Raises:
        ModuleNotFoundError: accelerate or datasets is not installed.
    """
    missing = [name for name in ("accelerate", "datasets") if importlib.util.find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(
            f"The trainer of sentence-transformers needs {' and '.join(missing)}, not installed here. Run: {INSTALL}"
        )


def make_trainer(
    base: Path, rows: list[Row], settings: RetrieverSettings, machine: Machine, work: Path
) -> "SentenceTransformerTrainer":
    """Their trainer over the rows, read once in their order; a benchmark adds its clock to it."""
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    contrastive, loop = settings.contrastive, settings.loop
    # As a user loads it: without the kind of attention that `load_sentence_transformer` asks for.
    model = SentenceTransformer(
        str(base),
        device=machine.device,
        trust_remote_code=False,
        local_files_only=True,
        model_kwargs={"use_safetensors": True, "dtype": "float32"},
    )
    limit = model.max_seq_length or 512
    if limit < math.inf:  # a StaticEmbedding reads whole texts and cannot be told otherwise
        model.max_seq_length = min(limit, longest(settings))
    columns = {"query": [row.query for row in rows], "positive": [row.positive for row in rows]}
    for number in range(settings.negatives):
        columns[f"negative_{number + 1}"] = [row.negatives[number] for row in rows]
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(work / "checkpoints"),
        num_train_epochs=1,  # the rows hold all epochs, each in its own order
        per_device_train_batch_size=settings.batch_size,
        learning_rate=loop.learning_rate,
        lr_scheduler_type=SCHEDULES[loop.schedule],
        gradient_accumulation_steps=loop.accumulation,
        warmup_steps=loop.warmup,
        weight_decay=loop.decay,
        max_grad_norm=loop.clip,
        seed=loop.seed,
        bf16=machine.precision == "bf16",
        use_cpu=machine.device == "cpu",
        batch_sampler=in_order,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_strategy="no",
    )
    return SentenceTransformerTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict(columns),
        loss=MultipleNegativesRankingLoss(model, scale=1 / contrastive.temperature),
    )


def in_order(dataset: Any, batch_size: int, drop_last: bool, **_others: Any) -> Any:
    """Batches of the rows as they follow each other."""
    from torch.utils.data import BatchSampler, SequentialSampler

    return BatchSampler(SequentialSampler(dataset), batch_size, drop_last)
