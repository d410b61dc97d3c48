"""Names that other trainers give to the parameters of retriever_training: FlagEmbedding's and transformers'."""

from collections.abc import Callable
from typing import Any

from ragsmith.pipelines.other_names import UNCHANGED, OtherNames

# Other name → our name, and our value from theirs.
ALIASES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "num_train_epochs": ("epochs", lambda value: value),
    "train_group_size": ("negatives", lambda value: value - 1),
    "query_max_len": ("max_query_tokens", lambda value: value),
    "query_max_length": ("max_query_tokens", lambda value: value),
    "passage_max_len": ("max_passage_tokens", lambda value: value),
    "passage_max_length": ("max_passage_tokens", lambda value: value),
    "lr_scheduler_type": ("schedule", lambda value: value),
    "gradient_accumulation_steps": ("accumulation", lambda value: value),
    "warmup_ratio": ("warmup", lambda value: value),
    "max_grad_norm": ("clip", lambda value: value),
    "use_inbatch_neg": ("in_batch_negatives", lambda value: value),
    "sentence_pooling_method": (
        "pooling",
        lambda value: {"last_token": "lasttoken", "last": "lasttoken"}.get(value, value),
    ),
    "query_instruction_for_retrieval": ("query_prompt", lambda value: value),
    "passage_instruction_for_retrieval": ("passage_prompt", lambda value: value),
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
    "dataloader_drop_last": (True, "the rest of an epoch sits out, other queries each time"),
    "kd_loss_type": ("kl_div", "distillation is a KL divergence; see also loss: margin_mse"),
    "trust_remote_code": (False, "code that comes with a model is never run"),
    "fix_position_embedding": (
        False,
        "position embeddings are trained as all other weights; set lora.rank: adapters leave the embeddings alone",
    ),
    "same_dataset_within_batch": (False, "give each data set a stage of its own: stages"),
    "max_example_num_per_dataset": (100_000_000, "all examples are used; put smaller files into paths.records"),
    "query_instruction_format": ("{}{}", "write all that stands before a query into query_prompt"),
    "passage_instruction_format": ("{}{}", "write all that stands before a passage into passage_prompt"),
    "shuffle_ratio": (0, "texts are trained on as they stand"),
    "small_threshold": (0, "data sets are not joined by their size; choose queries with train_on or stages"),
    "drop_threshold": (0, "no data set is left out for its size; choose queries with train_on or stages"),
    "use_fast_tokenizer": (True, "a model folder brings its own tokenizer, tokenizer.json"),
    "warmup_steps": (0, "set warmup, which is a share: 0.1 for 10 of 100 steps"),
    "max_steps": (-1, "set epochs: training goes over all queries so many times"),
}
# Arguments that belong elsewhere.
ELSEWHERE = {
    "fp16": "set compute.precision in conf/<env>/globals.yml to bf16 or fp32",
    "bf16": "set compute.precision in conf/<env>/globals.yml to bf16 or fp32",
    "model_name_or_path": "set models.encoder in conf/<env>/globals.yml",
    "config_name": "set models.encoder in conf/<env>/globals.yml",
    "tokenizer_name": "set models.encoder in conf/<env>/globals.yml: a folder brings its own tokenizer",
    "cache_dir": "set the variable HF_HOME",
    "token": "set the variable HF_TOKEN",
    "train_data": "put the files into the folder paths.records of conf/<env>/globals.yml",
    "cache_path": "leave it out: what was computed is kept below paths.data",
    "output_dir": "the model goes to the catalog entry `retriever`",
    "overwrite_output_dir": "leave it out: what has changed is trained anew",
    "logging_steps": "leave it out: every step is logged",
    "logging_dir": "leave it out: the log is the catalog entry `retriever_log`",
    "report_to": "leave it out, or set the variable RAGSMITH_MLFLOW=1",
    "save_steps": "set checkpoint_seconds: state is kept by time, and no step is computed twice",
    "save_strategy": "set checkpoint_seconds: state is kept by time, and no step is computed twice",
    "save_total_limit": "leave it out: the last state and the best weights are kept, and no others",
    "eval_steps": "set evaluations: so many in each epoch",
    "eval_strategy": "set evaluations: so many in each epoch",
    "evaluation_strategy": "set evaluations: so many in each epoch",
    "load_best_model_at_end": "leave it out: the gate chooses what ships",
    "resume_from_checkpoint": "leave it out: a run that was killed goes on by itself",
    "optim": "set optimizer to adamw or adam",
    "deepspeed": "a retriever fits one card; set compute.ranks to train on several, lora.rank for large models",
    "ddp_find_unused_parameters": "leave it out, and set compute.ranks in conf/<env>/globals.yml",
    "dataloader_num_workers": "leave it out: the next batch is made while one is computed",
    "sub_batch_size": "set micro_tokens: tokens, and not texts, take memory",
    "pad_to_multiple_of": "leave it out: texts are computed without padding",
}


def translated(values: dict[str, Any]) -> dict[str, Any]:
    """The parameters under our names; what stands under another's name counts.

    Raises:
        ValueError: an argument that is always otherwise here, or that belongs elsewhere; with the reason.
    """
    found = OtherNames(ALIASES, ALWAYS, ELSEWHERE).translated(values)
    if values.get("use_mrl") and not found.get("matryoshka"):
        raise ValueError("use_mrl is set without mrl_dims: give the lengths, such as matryoshka: [64, 128]")
    return found
