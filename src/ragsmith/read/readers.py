"""All readers by one name: what they have in common, and which one a folder holds."""

import json
from pathlib import Path

from ragsmith.compute.device import Machine
from ragsmith.read.causal import CausalReader
from ragsmith.read.extractive import ExtractiveReader
from ragsmith.read.generative import GENERATIVE_KINDS, GenerativeReader
from ragsmith.read.reading import READER_FILE
from ragsmith.read.seq2seq import Seq2SeqReader
from ragsmith.retrieve.models import ModelError

EXTRACTIVE = "extractive"
READERS: tuple[str, ...] = (EXTRACTIVE, *GENERATIVE_KINDS)


# Either marks its answer or writes it: what evaluation and serving ask of both is `ReadsPassages`, and `save`.
Reader = ExtractiveReader | GenerativeReader


def reader_kind(folder: Path) -> str:
    """Which reader a folder holds: one of `READERS`.

    Raises:
        ModelError: it holds none, or one that this version does not know.
    """
    path = folder / READER_FILE
    try:
        # Extractive readers were there first: their settings name no kind.
        kind = json.loads(path.read_text("utf-8")).get("kind", EXTRACTIVE)
    except FileNotFoundError as error:
        raise ModelError(
            f"{folder} holds no reader: {READER_FILE} is not there. Run: kedro run --pipelines rag_training"
        ) from error
    except (ValueError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path} is damaged: {error}. Run: kedro run --pipelines rag_training") from error
    if kind not in READERS:
        raise ModelError(f"{path} names a reader {kind!r}. There are: {', '.join(READERS)}.")
    return str(kind)


def load_reader(folder: Path, machine: Machine | None = None) -> Reader:
    """The reader that a folder holds, with the settings that it was saved with.

    Args:
        folder: what a reader's `save` wrote.
        machine: device and precision; None probes.
    Raises:
        ModelError: there is none, an unknown one, or its model is truncated, altered or of another kind.
    """
    kind = reader_kind(folder)
    if kind == EXTRACTIVE:
        return ExtractiveReader.load(folder, machine=machine)
    return (CausalReader if kind == "causal" else Seq2SeqReader).load(folder, machine=machine)
