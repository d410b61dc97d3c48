"""Every argument of FlagEmbedding's two tools is taken as what it means here, or refused with what to do instead."""

import pytest
from pydantic import ValidationError

from ragsmith.pipelines.negative_mining.params import NegativeMiningParams
from ragsmith.pipelines.other_names import say_once
from ragsmith.pipelines.retriever_training.params import RetrieverTrainingParams

REFUSED = object()

# Of its training, old and new: a value that is not its default, and what becomes of it here.
TRAINING = {
    "train_data": ("file.jsonl", REFUSED),
    "train_group_size": (8, {"negatives": 7}),
    "query_max_len": (32, {"max_query_tokens": 32}),
    "passage_max_len": (96, {"max_passage_tokens": 96}),
    "max_example_num_per_dataset": (1000, REFUSED),
    "query_instruction_for_retrieval": ("find: ", {"query_prompt": "find: "}),
    "passage_instruction_for_retrieval": ("text: ", {"passage_prompt": "text: "}),
    "negatives_cross_device": (False, {"negatives_cross_device": False}),
    "temperature": (0.02, {"temperature": 0.02}),
    "fix_position_embedding": (True, {"fix_position_embedding": True}),
    "sentence_pooling_method": ("cls", {"pooling": "cls"}),
    "normlized": (False, REFUSED),
    "use_inbatch_neg": (False, {"in_batch_negatives": False}),
    "model_name_or_path": ("BAAI/bge-base-en", REFUSED),
    "config_name": ("bert", REFUSED),
    "tokenizer_name": ("bert", REFUSED),
    "cache_dir": ("cache", REFUSED),
    "cache_path": ("cache", {}),
    "pad_to_multiple_of": (8, {}),
    "query_instruction_format": ("Instruct: {}\nQuery: {}", {}),  # nothing without an instruction
    "passage_instruction_format": ("{}: {}", {}),
    "knowledge_distillation": (True, {"loss": "distillation"}),
    "kd_loss_type": ("m3_kd_loss", REFUSED),
    "shuffle_ratio": (0.5, REFUSED),
    "same_dataset_within_batch": (True, REFUSED),
    "small_threshold": (10, REFUSED),
    "drop_threshold": (10, REFUSED),
    "normalize_embeddings": (False, REFUSED),
    "sub_batch_size": (4, {}),
    "use_mrl": (True, REFUSED),  # without mrl_dims
    "mrl_dims": ([64, 128], {"matryoshka": [64, 128]}),
    "trust_remote_code": (True, REFUSED),
    "use_fast_tokenizer": (False, REFUSED),
    "token": ("hf_x", REFUSED),
    # of transformers' TrainingArguments, those that its commands set
    "output_dir": ("model", REFUSED),
    "overwrite_output_dir": (True, {}),
    "learning_rate": (1e-5, {"learning_rate": 1e-5}),
    "num_train_epochs": (5, {"epochs": 5}),
    "per_device_train_batch_size": (8, {"per_device_train_batch_size": 8}),
    "fp16": (True, {"precision": "auto"}),
    "bf16": (True, {"precision": "auto"}),
    "dataloader_drop_last": (False, REFUSED),
    "gradient_checkpointing": (True, {"activation_gib": 0.0}),
    "gradient_accumulation_steps": (2, {"accumulation": 2}),
    "deepspeed": ("ds_config.json", REFUSED),
    "warmup_ratio": (0.2, {"warmup": 0.2}),
    "warmup_steps": (100, {"warmup": 100}),
    "lr_scheduler_type": ("linear", {"schedule": "linear"}),
    "weight_decay": (0.1, {"weight_decay": 0.1}),
    "max_grad_norm": (0.5, {"clip": 0.5}),
    "logging_steps": (10, {}),
    "save_steps": (1000, {}),
    "save_total_limit": (2, {}),
    "adam_beta1": (0.8, REFUSED),  # and all others of theirs
    "max_steps": (100, REFUSED),
    "seed": (7, {"seed": 7}),
}

# Of hn_mine, old and new.
MINING = {
    "model_name_or_path": ("BAAI/bge-base-en", REFUSED),
    "input_file": ("in.jsonl", REFUSED),
    "output_file": ("out.jsonl", REFUSED),
    "candidate_pool": ("pool.jsonl", REFUSED),
    "range_for_sampling": ("10-210", {"skip_top": 10, "top_k": 210}),
    "negative_number": (15, {"num_negatives": 15}),
    "use_gpu_for_searching": (True, {}),
    "query_instruction_for_retrieval": ("find: ", {"query_prompt": "find: "}),
    "embedder_name_or_path": ("BAAI/bge-base-en", REFUSED),
    "embedder_model_class": ("encoder-only-base", REFUSED),
    "normalize_embeddings": (False, REFUSED),
    "pooling_method": ("cls", REFUSED),
    "use_fp16": (True, {}),
    "devices": ("cuda:0", REFUSED),
    "query_instruction_format": ("{}: {}", {}),
    "query_instruction_format_for_retrieval": ("{}: {}", {}),
    "examples_for_task": ([{}], REFUSED),
    "examples_instruction_format": ("{}", REFUSED),
    "trust_remote_code": (True, REFUSED),
    "cache_dir": ("cache", REFUSED),
    "batch_size": (3000, {}),
    "query_max_length": (512, REFUSED),
    "passage_max_length": (512, REFUSED),
    "embedder_query_max_length": (512, REFUSED),
    "embedder_passage_max_length": (512, REFUSED),
    "search_batch_size": (64, {}),
}
CASES = [
    pytest.param(model, name, value, expected, id=f"{tool}-{name}")
    for tool, model, table in (
        ("training", RetrieverTrainingParams, TRAINING),
        ("mining", NegativeMiningParams, MINING),
    )
    for name, (value, expected) in table.items()
]


@pytest.mark.parametrize(("model", "name", "value", "expected"), CASES)
def test_each_argument_is_taken_as_what_it_means_here_or_refused_with_what_to_do(model, name, value, expected):
    if expected is not REFUSED:
        changed = model.model_validate({name: value}).model_dump()
        untouched = model().model_dump()
        assert {key: changed[key] for key in changed if changed[key] != untouched[key]} == expected
        return
    with pytest.raises(ValidationError) as refusal:
        model.model_validate({name: value})
    (fault,) = refusal.value.errors()
    reason = fault["msg"]
    assert "Extra inputs" not in reason and reason.startswith(f"Value error, {name} ")
    # What to do: a parameter of ours, a place, or nothing at all.
    doing = ("set ", "put ", "leave it out", "can only be", "give ", "goes to", "go to")
    assert any(words in reason for words in doing) and len(reason) > len(name) + 40


DEFAULTS = {
    "max_example_num_per_dataset": 100_000_000,
    "fix_position_embedding": False,
    "same_dataset_within_batch": False,
    "query_instruction_format": "{}{}",
    "passage_instruction_format": "{}{}",
    "query_instruction_for_retrieval": None,
    "negatives_cross_device": False,
    "knowledge_distillation": False,
    "kd_loss_type": "kl_div",
    "bf16": False,
    "fp16": False,
    "gradient_checkpointing": False,
    "shuffle_ratio": 0.0,
    "small_threshold": 0,
    "drop_threshold": 0,
    "use_mrl": False,
    "mrl_dims": [64],  # not used without use_mrl
    "use_fast_tokenizer": True,
    "trust_remote_code": False,
    "token": None,
    "cache_dir": None,
    "pad_to_multiple_of": None,
    "sub_batch_size": None,
    "deepspeed": None,
    "warmup_steps": 0,
    "max_steps": -1,
}


def test_the_defaults_of_others_change_nothing():
    changed = RetrieverTrainingParams.model_validate(DEFAULTS | {"activation_gib": 0.7})
    untouched = RetrieverTrainingParams(negatives_cross_device=False, activation_gib=0.7, loss="infonce")
    assert changed == untouched
    mining = {
        "query_instruction_for_retrieval": "",
        "query_instruction_format": "{}{}",
        "normalize_embeddings": True,
        "trust_remote_code": False,
        "candidate_pool": None,
        "devices": None,
        "cache_dir": None,
    }
    assert NegativeMiningParams.model_validate(mining) == NegativeMiningParams()


@pytest.mark.parametrize(
    ("model", "kind"),
    [(RetrieverTrainingParams, "query"), (RetrieverTrainingParams, "passage"), (NegativeMiningParams, "query")],
)
def test_instruction_and_its_format_become_the_prompt_that_they_make(model, kind):
    names = {f"{kind}_instruction_for_retrieval": "Find it", f"{kind}_instruction_format": "Instruct: {}\\nText: {}"}
    assert getattr(model.model_validate(names), f"{kind}_prompt") == "Instruct: Find it\nText: "
    names[f"{kind}_instruction_format"] = "<s>{}{}</s>"
    with pytest.raises(ValidationError, match=f"{kind}_instruction_format is '<s>{{}}{{}}</s>': what is put before"):
        model.model_validate(names)


def test_what_is_passed_over_is_told_once_with_how_it_is_here(caplog):
    say_once.cache_clear()
    with caplog.at_level("INFO", "ragsmith.pipelines.other_names"):
        for _ in range(2):
            RetrieverTrainingParams.model_validate({"save_steps": 500, "report_to": None})
    (line,) = caplog.messages
    assert line.startswith("save_steps is passed over: checkpoint_seconds says how often")


def test_name_that_nobody_knows_is_an_error():
    with pytest.raises(ValidationError, match="Extra inputs"):
        RetrieverTrainingParams.model_validate({"learning_rat": 1e-5})


def test_share_of_the_steps_is_not_taken_for_a_number_of_steps():
    with pytest.raises(ValidationError, match=r"warmup_ratio \(here: warmup\) cannot be 1\.0"):
        RetrieverTrainingParams.model_validate({"warmup_ratio": 1.0})
