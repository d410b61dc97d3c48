"""Building the dense index of a model, and opening it with that model again."""

import shutil
from pathlib import Path

import pandas as pd

from ragsmith.compute.device import Machine
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.index import DenseIndex, IndexSettings, index_model
from ragsmith.retrieve.passage_text import passage_inputs
from ragsmith.retrieve.route_files import passage_model


def build_index(
    model: Path,
    passages: pd.DataFrame,
    machine: Machine,
    batch_tokens: int,
    work: Path,
    label: str,
    settings: IndexSettings | None = None,
) -> Path:
    """Encode all passages and write the index.

    Args:
        model: a checked sentence-transformers folder.
        passages: passage_id, title, text.
        machine: device and precision.
        batch_tokens: tokens encoded at once.
        work: a folder for this step alone; the vectors in it are kept, and only what changed is encoded again.
        label: for progress.
        settings: which kind; None is `IndexSettings` as it comes.
    Returns:
        The finished folder below `work`.
    """
    encoder = Encoder.load(model, machine, batch_tokens=batch_tokens)
    vectors = encoder.encode(passage_inputs(passages), "passage", label, cache=work / "vectors")
    folder = work / "index"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    hnsw = (settings or IndexSettings()).chosen(len(passages))
    DenseIndex(passages["passage_id"].tolist(), vectors, hnsw).save(folder, passage_model(model))
    return folder


def load_index(folder: Path, model: Path) -> DenseIndex:
    """The index that a model made; the model then encodes the queries.

    Args:
        folder: of the index.
        model: a checked sentence-transformers folder.
    Raises:
        ValueError: as `maker_of_index` and `DenseIndex.load`.
    """
    maker_of_index(folder, model)
    return DenseIndex.load(folder)


def maker_of_index(folder: Path, model: Path) -> str:
    """The model that made an index, as `passage_model` names it.

    Raises:
        ValueError: it is another one than `model`; of equal length, their vectors would be compared without a word.
    """
    made_by = index_model(folder)
    if made_by != passage_model(model):
        raise ValueError(
            f"The index in {folder} was made by another model than {model}, which encodes the queries. "
            "Build it again: kedro run, without naming pipelines, does all that changed."
        )
    return made_by
