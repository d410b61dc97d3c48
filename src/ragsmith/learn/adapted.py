"""A model folder with another pooling or other prompts: what a training then starts from."""

import shutil
from pathlib import Path
from typing import Literal

from ragsmith.retrieve.encoder import load_sentence_transformer
from ragsmith.retrieve.models import model_hash
from ragsmith.retrieve.routes import spell_out_prompts
from ragsmith.store import is_complete, publish_directory

PoolingMode = Literal["cls", "mean", "lasttoken"]


def adapted_base(
    base: Path, pooling: PoolingMode | None, query_prompt: str | None, passage_prompt: str | None, work: Path
) -> Path:
    """The base itself when nothing is to change, else a copy of it below `work` with the change.

    Args:
        base: a checked sentence-transformers folder.
        pooling: how token vectors become one; None keeps the model's own.
        query_prompt, passage_prompt: put before each text in training and ever after; None keeps the model's own.
        work: the copy is kept here under the content of what it was made from.
    Raises:
        ValueError: the model has no pooling that could be another.
    """
    from sentence_transformers.sentence_transformer.modules import Pooling

    if pooling is None and query_prompt is None and passage_prompt is None:
        return base
    folder = work / "base"
    wanted = f"{model_hash(str(base))}\n{pooling}\n{query_prompt!r}\n{passage_prompt!r}"
    mark = "adapted_from.txt"
    if is_complete(folder) and (folder / mark).read_text("utf-8") == wanted:
        return folder
    model = load_sentence_transformer(base)
    if pooling is not None:
        places = [place for place, module in enumerate(model) if isinstance(module, Pooling)]
        if len(places) != 1:
            raise ValueError(f"pooling is {pooling!r}, but {base} has {len(places)} poolings: leave it out.")
        old = model[places[0]]
        model[places[0]] = Pooling(old.embedding_dimension, pooling_mode=pooling, include_prompt=old.include_prompt)
    spell_out_prompts(model)
    if "" in (query_prompt, passage_prompt):
        model.default_prompt_name = None  # it would fill what is to be empty
    if query_prompt is not None:
        model.prompts = {**model.prompts, "query": query_prompt}
    if passage_prompt is not None:
        model.prompts = {**model.prompts, "document": passage_prompt, "passage": passage_prompt}
    if folder.exists():
        shutil.rmtree(folder)

    def write(staging: Path) -> None:
        model.save(str(staging), create_model_card=False, safe_serialization=True)
        (staging / mark).write_text(wanted, "utf-8")

    publish_directory(folder, write)
    return folder
