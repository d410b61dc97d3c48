"""Training with FlagEmbedding's `run`, as it comes."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from ragsmith.compute.device import Machine
from ragsmith.compute.ranks import die_with_parent
from ragsmith.learn.backends.rows import SCHEDULES, Row, taken_by_both, training_rows
from ragsmith.learn.train_retriever import RetrieverSettings
from ragsmith.learn.training_data import Example
from ragsmith.retrieve.encoder import Encoder, load_sentence_transformer

MODULE = "FlagEmbedding.finetune.embedder.encoder_only.base"
INSTALL = "pip install 'ragsmith[flagembedding]'"
# Their default, cls, is wrong for most models, and nothing tells: the model's own is passed.
POOLINGS = {"cls": "cls", "mean": "mean", "lasttoken": "last_token"}


def train(
    base: Path,
    examples: list[Example],
    passages: pd.DataFrame,
    settings: RetrieverSettings,
    machine: Machine,
    work: Path,
) -> Path:
    """The model after training with FlagEmbedding, in a process of its own that does not reach the network.

    What is ours is mapped to theirs: temperature, batch size, group size (one positive and the negatives), lengths of
    queries and passages, epochs, rates and their schedule, accumulation, decay, clip, seed, bf16, and the model's own
    pooling. The rest is as it comes: the model's own dropout, in-batch duplicates not masked. There is no evaluation
    on the way, no gate and no resumption. It writes bare weights; the base's modules are put around them again.

    Args:
        base: the model to start from, a sentence-transformers folder.
        examples, passages: see `training_rows`.
        settings: see `RetrieverSettings`; at least one negative.
        machine: device; precision `bf16` turns on their mixed precision.
        work: folder of this training alone; `flagembedding.log` in it is what the process said.
    Returns:
        A sentence-transformers folder in `work`, weights as safetensors.
    Raises:
        ModuleNotFoundError: FlagEmbedding is not installed.
        ValueError: see `training_rows` and `arguments`.
        RuntimeError: the process failed; the message has its last lines.
    """
    require()
    rows = training_rows(examples, passages, settings, Encoder.load(base, machine))
    work.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", MODULE, *arguments(base, rows, settings, machine, work)]
    log = work / "flagembedding.log"
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            command,
            env=offline(work),
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
            preexec_fn=die_with_parent,  # or it would go on beside the one that the next run starts
        )
    if done.returncode:
        last = "\n".join(log.read_text("utf-8", errors="replace").splitlines()[-5:])
        raise RuntimeError(f"FlagEmbedding ended with status {done.returncode}; {log} has all it said:\n{last}")
    return rebuilt(base, work / "weights", work / "model")


def taken(settings: RetrieverSettings) -> dict[str, Any]:
    """Those of our settings that their trainer goes by, beside epochs and rate."""
    names = ("max_query_tokens", "max_passage_tokens", "fix_position_embedding")
    return {**taken_by_both(settings), **{name: getattr(settings.contrastive, name) for name in names}}


def require() -> None:
    """Refuse to begin without FlagEmbedding.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    if importlib.util.find_spec("FlagEmbedding") is None:
        raise ModuleNotFoundError(f"FlagEmbedding is not installed. Run: {INSTALL}")


def arguments(base: Path, rows: list[Row], settings: RetrieverSettings, machine: Machine, work: Path) -> list[str]:
    """Their command line for a training on the rows, which are written into `work`.

    Raises:
        ValueError: no negatives, or a pooling that they do not have.
    """
    if settings.negatives < 1:
        raise ValueError("FlagEmbedding trains on a positive and at least one negative: set negatives to 1 or more.")
    contrastive, loop = settings.contrastive, settings.loop
    data, weights = work / "rows.jsonl", work / "weights"
    shutil.rmtree(weights, ignore_errors=True)
    lines = (json.dumps({"query": row.query, "pos": [row.positive], "neg": list(row.negatives)}) for row in rows)
    data.write_text("".join(line + "\n" for line in lines), "utf-8")
    options = {
        "model_name_or_path": base,
        "train_data": data,
        "cache_path": work / "cache",
        "output_dir": weights,
        "train_group_size": 1 + settings.negatives,
        "query_max_len": contrastive.max_query_tokens,
        "passage_max_len": contrastive.max_passage_tokens,
        "temperature": contrastive.temperature,
        "sentence_pooling_method": pooling(base),
        "normalize_embeddings": True,
        "num_train_epochs": 1,  # the rows hold all epochs, each in its own order
        "train_sampling_strategy": "sequential",
        "per_device_train_batch_size": settings.batch_size,
        "learning_rate": loop.learning_rate,
        "lr_scheduler_type": SCHEDULES[loop.schedule],
        "gradient_accumulation_steps": loop.accumulation,
        "fix_position_embedding": contrastive.fix_position_embedding,
        "warmup_steps": loop.warmup,
        "weight_decay": loop.decay,
        "max_grad_norm": loop.clip,
        "seed": loop.seed,
        "bf16": machine.precision == "bf16",
        "use_cpu": machine.device == "cpu",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    return [part for name, value in options.items() for part in (f"--{name}", str(value))]


def pooling(base: Path) -> str:
    """Their name of the model's own pooling.

    Raises:
        ValueError: it has none, or one that they do not have.
    """
    modes = [getattr(module, "pooling_mode", None) for module in load_sentence_transformer(base)]
    mode = next((mode for mode in modes if mode), None)
    if mode not in POOLINGS:
        raise ValueError(f"The pooling of {base} is {mode!r}; FlagEmbedding has {', '.join(POOLINGS)}.")
    return POOLINGS[mode]


def offline(work: Path) -> dict[str, str]:
    """The environment of a process that asks no hub and leaves nothing in the person's cache."""
    return {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(work / "cache"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def rebuilt(base: Path, weights: Path, folder: Path) -> Path:
    """The base with other weights: its pooling, prompts, length and tokenizer around what FlagEmbedding wrote.

    Their folder holds a pickle too (training_args.bin); it is never opened, and does not come along.
    """
    from transformers import AutoModel

    model = load_sentence_transformer(base)
    tuned = AutoModel.from_pretrained(weights, use_safetensors=True, local_files_only=True, trust_remote_code=False)
    transformer: Any = model[0]
    transformer.auto_model.load_state_dict(tuned.state_dict())
    shutil.rmtree(folder, ignore_errors=True)
    model.save(str(folder), create_model_card=False, safe_serialization=True)
    return folder
