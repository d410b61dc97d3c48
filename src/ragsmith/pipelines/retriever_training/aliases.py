"""Names that other trainers give to the parameters of retriever_training: FlagEmbedding's and transformers'."""

from collections.abc import Callable
from typing import Any

# Other name → our name, and our value from theirs.
ALIASES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "num_train_epochs": ("epochs", lambda value: value),
    "per_device_train_batch_size": ("batch_size", lambda value: value),
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
    "sentence_pooling_method": ("pooling", lambda value: {"last_token": "lasttoken"}.get(value, value)),
    "query_instruction_for_retrieval": ("query_prompt", lambda value: value),
    "passage_instruction_for_retrieval": ("passage_prompt", lambda value: value),
    "gradient_checkpointing": ("activation_gib", lambda value: 0.0 if value else 1024.0),
    "knowledge_distillation": ("loss", lambda value: "distillation" if value else "infonce"),
    "mrl_dims": ("matryoshka", lambda value: value),
}
# Arguments with one value that is how it always is here, and the reason.
ALWAYS: dict[str, tuple[Any, str]] = {
    "normlized": (True, "vectors are always of unit length, in training as in search"),
    "normalize_embeddings": (True, "vectors are always of unit length, in training as in search"),
    "negatives_cross_device": (True, "several processes always share their negatives: the loss is that of one batch"),
    "dataloader_drop_last": (True, "the rest of an epoch sits out, other queries each time"),
    "kd_loss_type": ("kl_div", "distillation is a KL divergence; see also loss: margin_mse"),
    "use_mrl": (True, "Matryoshka lengths are given as matryoshka: [..]; leave them out for none"),
    "trust_remote_code": (False, "code that comes with a model is never run"),
}
# Arguments that belong elsewhere.
ELSEWHERE = {
    "fp16": "set compute.precision in conf/<env>/globals.yml to bf16 or fp32",
    "bf16": "set compute.precision in conf/<env>/globals.yml to bf16 or fp32",
    "model_name_or_path": "set models.encoder in conf/<env>/globals.yml",
    "config_name": "set models.encoder in conf/<env>/globals.yml",
    "tokenizer_name": "set models.encoder in conf/<env>/globals.yml: a folder brings its own tokenizer",
    "cache_dir": "set the variable HF_HOME",
    "train_data": "put the files into the folder paths.records of conf/<env>/globals.yml",
    "output_dir": "the model goes to the catalog entry `retriever`",
    "logging_steps": "every step is logged",
    "save_steps": "set checkpoint_seconds: state is kept by time, and no step is computed twice",
    "deepspeed": "a retriever fits one card; set compute.ranks to train on several, lora.rank for large models",
    "sub_batch_size": "set micro_tokens: tokens, and not texts, take memory",
    "fix_position_embedding": "set lora.rank: adapters leave the embeddings as they are",
    "same_dataset_within_batch": "give each data set a stage of its own: stages",
}


def translated(values: dict[str, Any]) -> dict[str, Any]:
    """The parameters under our names; what stands under another's name counts.

    Raises:
        ValueError: an argument that is always otherwise here, or that belongs elsewhere; with the reason.
    """
    found = dict(values)
    for name in list(found):
        if name in ALIASES:
            own, convert = ALIASES[name]
            try:
                found[own] = convert(found.pop(name))
            except TypeError as error:
                raise ValueError(f"{name} (here: {own}) cannot be {values[name]!r}") from error
        elif name in ALWAYS:
            value, reason = ALWAYS[name]
            if found.pop(name) != value:
                raise ValueError(f"{name} can only be {value!r}: {reason}")
        elif name in ELSEWHERE:
            raise ValueError(f"{name} is not set here: {ELSEWHERE[name]}")
    return found
