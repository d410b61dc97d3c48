"""Names that other trainers give to the parameters of retriever_training: FlagEmbedding's and transformers'."""

from collections.abc import Callable, Collection
from typing import Any

from ragsmith.pipelines.other_names import UNCHANGED, OtherNames, prompt_of_format


def share(value: Any) -> Any:
    """A number below 1; from 1 on, `warmup` counts steps."""
    if value >= 1:
        raise TypeError("a share is below 1")
    return value


def half(value: Any) -> Any:
    """Half precision, where it is asked for, of the kind that needs no scaling of the loss.

    Float16 is where theirs fails (their issue 353). Probed, for emulated it is a hundred times slower.
    """
    return "auto" if value else UNCHANGED


def schedule(value: Any) -> Any:
    """Their schedule as ours: their polynomial one is of power 1, that is, linear."""
    return {"constant_with_warmup": "constant", "polynomial": "linear"}.get(value, value)


# Other name → our name, and our value from theirs.
ALIASES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "num_train_epochs": ("epochs", lambda value: value),
    "train_group_size": ("negatives", lambda value: value - 1),
    "query_max_len": ("max_query_tokens", lambda value: value),
    "query_max_length": ("max_query_tokens", lambda value: value),
    "passage_max_len": ("max_passage_tokens", lambda value: value),
    "passage_max_length": ("max_passage_tokens", lambda value: value),
    "lr_scheduler_type": ("schedule", schedule),
    "gradient_accumulation_steps": ("accumulation", lambda value: value),
    "warmup_ratio": ("warmup", share),
    "warmup_steps": ("warmup", lambda value: value or UNCHANGED),  # none is their default, and leaves it to the ratio
    "max_grad_norm": ("clip", lambda value: value),
    "use_inbatch_neg": ("in_batch_negatives", lambda value: value),
    "sentence_pooling_method": (
        "pooling",
        lambda value: {"last_token": "lasttoken", "last": "lasttoken"}.get(value, value),
    ),
    "query_instruction_for_retrieval": ("query_prompt", lambda value: value),
    "passage_instruction_for_retrieval": ("passage_prompt", lambda value: value),
    "bf16": ("precision", half),
    "fp16": ("precision", half),
    # Without it, memory is left to our own setting: nothing need be turned off.
    "gradient_checkpointing": ("activation_gib", lambda value: 0.0 if value else UNCHANGED),
    "knowledge_distillation": ("loss", lambda value: "distillation" if value else "infonce"),
    "mrl_dims": ("matryoshka", lambda value: value),
    "use_mrl": ("matryoshka", lambda value: UNCHANGED if value else []),
}
# Arguments with one value that is how it always is here, and the reason.
ALWAYS: dict[str, tuple[Any, str]] = {
    "normlized": (True, "vectors are always of unit length, in training as in search"),
    "normalize_embeddings": (True, "vectors are always of unit length, in training as in search"),
    "kd_loss_type": ("kl_div", "distillation is a KL divergence; see also loss: margin_mse"),
    "trust_remote_code": (False, "code that comes with a model is never run"),
    "same_dataset_within_batch": (False, "give each data set a stage of its own: stages"),
    "max_example_num_per_dataset": (100_000_000, "all examples are used; put smaller files into paths.records"),
    "shuffle_ratio": (0, "texts are trained on as they stand"),
    "small_threshold": (0, "data sets are not joined by their size; choose queries with train_on or stages"),
    "drop_threshold": (0, "no data set is left out for its size; choose queries with train_on or stages"),
    "dataloader_drop_last": (True, "what makes no whole batch sits out, other queries each epoch; lower batch_size"),
    "use_fast_tokenizer": (True, "a model folder brings its own tokenizer, tokenizer.json"),
    "max_steps": (-1, "set epochs: training goes over all queries so many times"),
}
# Arguments that belong elsewhere.
ELSEWHERE = {
    "model_name_or_path": "set models.encoder in conf/<env>/globals.yml",
    "config_name": "set models.encoder in conf/<env>/globals.yml",
    "tokenizer_name": "set models.encoder in conf/<env>/globals.yml: a folder brings its own tokenizer",
    "cache_dir": "set the variable HF_HOME",
    "token": "set the variable HF_TOKEN",
    "train_data": "put the files into the folder paths.records of conf/<env>/globals.yml",
    "output_dir": "the model goes to the catalog entry `retriever`",
    "eval_steps": "set evaluations: so many in each epoch",
    "eval_strategy": "set evaluations: so many in each epoch",
    "evaluation_strategy": "set evaluations: so many in each epoch",
    "optim": "set optimizer to adamw or adam",
    "deepspeed": "a retriever fits one card; set compute.ranks to train on several, lora.rank for large models",
}
# Arguments that decide nothing that is learned, and how it is here.
NEEDLESS = {
    "cache_path": "what was computed is kept below paths.data",
    "dataloader_num_workers": "the next batch is made while one is computed",
    "dataloader_pin_memory": "the next batch is made while one is computed",
    "ddp_find_unused_parameters": "compute.ranks in conf/<env>/globals.yml says how many processes train",
    "disable_tqdm": "progress is shown where there is a terminal",
    "do_train": "the step trains",
    "load_best_model_at_end": "the gate chooses what ships",
    "logging_dir": "the log is the catalog entry `retriever_log`",
    "logging_steps": "every step is logged",
    "logging_strategy": "every step is logged",
    "overwrite_output_dir": "what has changed is trained anew",
    "pad_to_multiple_of": "texts are computed without padding",
    "report_to": "our own engine always writes TensorBoard's files; RAGSMITH_MLFLOW=1 adds MLflow",
    "resume_from_checkpoint": "a run that was killed goes on by itself",
    "run_name": "a run has the name of its session",
    "save_steps": "checkpoint_seconds says how often: state is kept by time, and no step is computed twice",
    "save_strategy": "checkpoint_seconds says how often: state is kept by time, and no step is computed twice",
    "save_total_limit": "the last state and the best weights are kept, and no others",
    "sub_batch_size": "micro_tokens says how much is computed at once: tokens, and not texts, take memory",
}
INSTRUCTIONS = (
    ("query_instruction_for_retrieval", "query_instruction_format"),
    ("passage_instruction_for_retrieval", "passage_instruction_format"),
)


def translated(values: dict[str, Any]) -> dict[str, Any]:
    """The parameters under our names; what stands under another's name counts.

    Raises:
        ValueError: an argument that is always otherwise here, or that belongs elsewhere; with the reason.
    """
    values = dict(values)
    for instruction, template in INSTRUCTIONS:
        prompt_of_format(values, instruction, template)
    found = OtherNames(ALIASES, ALWAYS, ELSEWHERE, NEEDLESS).translated(values)
    if values.get("use_mrl") and not found.get("matryoshka"):
        raise ValueError("use_mrl is set without mrl_dims: give the lengths, such as matryoshka: [64, 128]")
    return found


def known_to_transformers(names: Collection[str]) -> list[str]:
    """Which of the names transformers' TrainingArguments has. Ask of what nobody else knows: the import is slow."""
    if not names:
        return []
    from dataclasses import fields

    from transformers import TrainingArguments

    return sorted({field.name for field in fields(TrainingArguments)} & {*names})
