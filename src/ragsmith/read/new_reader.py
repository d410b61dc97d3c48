"""A reader that is about to be trained: of the kind that is asked for, from a base model."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ragsmith.compute.device import Machine
from ragsmith.learn.lora import LoraSettings, with_adapters
from ragsmith.read.causal import CausalReader
from ragsmith.read.decoding import Decoding
from ragsmith.read.extractive import ExtractiveReader, ReaderSettings
from ragsmith.read.generative import GENERATIVE_KINDS, GenerativeReader, GenerativeSettings, load_settings
from ragsmith.read.readers import Reader, reader_kind
from ragsmith.read.reading import READER_FILE
from ragsmith.read.scratch import reset_weights
from ragsmith.read.seq2seq import Seq2SeqReader

logger = logging.getLogger(__name__)

PAIR = "question: {question} context: {passage}"  # as Fusion-in-Decoder's (Izacard and Grave 2021)
# A decoder goes on from the end: what it is asked stands there, after what it may answer from.
PROMPT = "Answer the question from the passages.\n\n{passage}\n\nQuestion: {question}\nAnswer:"


def new_reader(
    base: Path,
    kind: str,
    values: Mapping[str, Any],
    lora: LoraSettings,
    machine: Machine,
    random_seed: int | None = None,
) -> Reader:
    """The reader with the weights of `base`; a head that `base` lacks starts untrained.

    Args:
        base: a model's folder: an encoder for `extractive`, an encoder-decoder for `rag_token`, `rag_sequence` and
            `fid`, a causal language model for `causal`.
        kind: see there.
        values: settings by the names of `ReaderSettings` and `GenerativeSettings`, and num_beams; others are passed
            over. Without a template it is that of the reader that `base` holds; where it is none, `PAIR`, or `PROMPT`
            for `causal`.
        lora: adapters that are trained in place of all weights; with a rank of 0 there are none.
        machine: device and precision.
        random_seed: begin with random weights of the same shapes; None keeps those of `base`.
    Raises:
        ModelError: the base is no model of that kind.
        ModuleNotFoundError: adapters are asked for, and peft is not installed.
    """
    reader: Reader
    if kind == "extractive":
        named = {name: values[name] for name in ("candidates",) if name in values}
        settings = ReaderSettings(values["max_tokens"], values["max_answer_tokens"], **named)
        reader = ExtractiveReader.load(base, settings, machine)
    else:
        named = {name: values[name] for name in ("max_tokens", "max_answer_tokens") if name in values}
        template = values.get("template") or own_template(base, kind) or (PROMPT if kind == "causal" else PAIR)
        decoding = Decoding(num_beams=values.get("num_beams", 1))
        generative = GenerativeSettings(kind=kind, template=template, decoding=decoding, **named)  # type: ignore[arg-type]
        loader = CausalReader if kind == "causal" else Seq2SeqReader
        reader = loader.load(base, generative, machine)
    if random_seed is not None:
        reset_weights(reader.model, random_seed)
    if lora.rank and isinstance(reader, GenerativeReader):
        reader.model = with_adapters(reader.model, lora, 0 if random_seed is None else random_seed)
    return reader


def own_template(base: Path, kind: str) -> str | None:
    """The template that the reader in a folder was trained with: another one would make it begin anew.

    None where the folder holds no reader that writes, or one that reads its passages in another way.
    """
    if not (base / READER_FILE).is_file():
        return None
    said = reader_kind(base)
    if said not in GENERATIVE_KINDS or (said == "causal") != (kind == "causal"):
        return None
    settings = load_settings(base)
    logger.info(
        "%s was trained to read %r, up to %d tokens: it goes on with that template", base, settings.template,
        settings.max_tokens,
    )  # fmt: skip
    return settings.template


def merged(model: Any) -> Any:
    """The plain model with what its adapters learned; a model without adapters itself."""
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
