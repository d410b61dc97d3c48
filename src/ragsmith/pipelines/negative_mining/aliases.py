"""Names that FlagEmbedding's hn_mine gives to the parameters of negative_mining."""

from collections.abc import Callable
from typing import Any

from ragsmith.pipelines.other_names import OtherNames, prompt_of_format

ENCODER = "set models.encoder in conf/<env>/globals.yml"
OWN_POOLING = "the encoder's own pooling counts; retriever_training.pooling sets another one for training"
OWN_LENGTH = "leave it out: texts are cut where the encoder ends, see max_seq_length in its folder"

# Other name → our name, and our value from theirs; range_for_sampling, which is two of ours, stands in params.py.
ALIASES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "negative_number": ("num_negatives", lambda value: value),
    "query_instruction_for_retrieval": ("query_prompt", lambda value: value or None),
}
# Arguments with one value that is how it always is here, and the reason.
ALWAYS: dict[str, tuple[Any, str]] = {
    "normalize_embeddings": (True, "vectors are always of unit length, in mining as in search"),
    "trust_remote_code": (False, "code that comes with a model is never run"),
}
# Arguments that belong elsewhere.
ELSEWHERE = {
    "model_name_or_path": ENCODER,
    "embedder_name_or_path": ENCODER,
    "embedder_model_class": f"{ENCODER}: a sentence-transformers folder says itself what it is",
    "pooling_method": OWN_POOLING,
    "input_file": "put the file into the folder paths.records of conf/<env>/globals.yml",
    "output_file": "the negatives go to the catalog entry `mined`",
    "candidate_pool": "put the file into the folder paths.candidate_pool of conf/<env>/globals.yml",
    "devices": "set compute.device in conf/<env>/globals.yml",
    "query_max_length": OWN_LENGTH,
    "passage_max_length": OWN_LENGTH,
    "embedder_query_max_length": OWN_LENGTH,
    "embedder_passage_max_length": OWN_LENGTH,
    "examples_for_task": "leave it out, or write the examples into the prompt of the encoder's folder",
    "examples_instruction_format": "leave it out, or write the examples into the prompt of the encoder's folder",
    "cache_dir": "set the variable HF_HOME",
}
# Arguments that decide nothing that is found, and how it is here.
NEEDLESS = {
    "use_gpu_for_searching": "compute.device in conf/<env>/globals.yml decides: cuda encodes and searches on the card",
    "use_fp16": "compute.precision in conf/<env>/globals.yml decides",
    "batch_size": "compute.batch_tokens in conf/<env>/globals.yml decides: tokens, and not texts, take memory",
    "search_batch_size": "queries are searched in blocks that fit into memory",
}


def translated(values: dict[str, Any]) -> dict[str, Any]:
    """The parameters under our names; what stands under another's name counts.

    Raises:
        ValueError: an argument that is always otherwise here, or that belongs elsewhere; with the reason.
    """
    values = dict(values)
    for template in ("query_instruction_format", "query_instruction_format_for_retrieval"):
        prompt_of_format(values, "query_instruction_for_retrieval", template)
    return OtherNames(ALIASES, ALWAYS, ELSEWHERE, NEEDLESS).translated(values)
