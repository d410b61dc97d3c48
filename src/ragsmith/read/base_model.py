"""Whether a base model can become a reader of a kind, seen from its configuration alone."""

import json
from pathlib import Path
from typing import Any

ENCODER, ENCODER_DECODER, CAUSAL = "an encoder", "an encoder-decoder", "a causal language model"
# What each kind of reader is made from, and an example.
WANTED = {
    "extractive": (ENCODER, "package:all-MiniLM-L6-v2"),
    "rag_token": (ENCODER_DECODER, "encoder_decoder:package:all-MiniLM-L6-v2"),
    "rag_sequence": (ENCODER_DECODER, "encoder_decoder:package:all-MiniLM-L6-v2"),
    "fid": (ENCODER_DECODER, "encoder_decoder:package:all-MiniLM-L6-v2"),
    "causal": (CAUSAL, "a folder or hub name of one"),
}


def unfit_base(folder: Path, reader: str) -> str:
    """Why a model cannot become this reader, and what to do; empty when it can.

    Without loading it: transformers would give an encoder an untrained head and call it a causal language model.

    Args:
        folder: of a checked model.
        reader: a kind of `WANTED`; others are not judged.
    """
    wanted, example = WANTED.get(reader, ("", ""))
    found = model_shape(folder)
    if not wanted or not found or found == wanted:
        return ""
    fitting = [name for name, (shape, _) in WANTED.items() if shape == found]
    return (
        f"reader is {reader}, which is made from {wanted} ({example}), and models.reader is {found}. Name {wanted} "
        f"under models.reader in globals.yml, or set rag_training.reader to {' or '.join(fitting)}."
    )


def model_shape(folder: Path) -> str:
    """An encoder, an encoder-decoder or a causal language model; empty where config.json does not say."""
    try:
        config: Any = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return ""
    names = config.get("architectures") if isinstance(config, dict) else None
    if not isinstance(names, list):
        return ENCODER_DECODER if isinstance(config, dict) and config.get("is_encoder_decoder") is True else ""
    if config.get("is_encoder_decoder") is True:
        return ENCODER_DECODER
    return CAUSAL if any(str(name).endswith(("ForCausalLM", "LMHeadModel")) for name in names) else ENCODER
