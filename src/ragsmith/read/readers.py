"""All readers by one name: what they have in common, and which one a folder holds."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ragsmith.compute.device import Machine
from ragsmith.read.causal import CausalReader
from ragsmith.read.extractive import READER_FILE, ExtractiveReader, Reading, ReadingPassage, Span
from ragsmith.read.generative import GENERATIVE_KINDS
from ragsmith.read.seq2seq import Seq2SeqReader
from ragsmith.retrieve.models import ModelError

EXTRACTIVE = "extractive"
READERS: tuple[str, ...] = (EXTRACTIVE, *GENERATIVE_KINDS)


class WeighsPrior(Protocol):
    """Settings of any reader."""

    @property
    def prior_weight(self) -> float:
        """How much one unit of a passage's retrieval score counts beside what is read in it."""


class Reader(Protocol):
    """What evaluation and serving ask of a reader, whether it marks its answer or writes it."""

    @property
    def settings(self) -> WeighsPrior:
        """What it reads and how it answers."""

    def answer(self, question: str, passages: Sequence[ReadingPassage]) -> Span | None:
        """The answer to one question; None when there is nothing to read."""

    def answer_all(
        self, questions: Sequence[str], passages: Sequence[Sequence[ReadingPassage]], label: str = ""
    ) -> list[Span | None]:
        """`answer` for each question with its own passages; `label` names the progress bar."""

    def read_all(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[ReadingPassage]],
        prefixes: Sequence[int] = (),
        label: str = "",
    ) -> list[Reading]:
        """What each question's passages give, all of them and so many first ones of them (`prefixes`)."""

    def save(self, folder: Path) -> None:
        """Write what `load_reader` reads."""


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
    except (ValueError, AttributeError) as error:
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
