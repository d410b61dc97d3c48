"""Untrained weights in the shape of a trained model."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragsmith.compute.device import Machine
from ragsmith.read.knowledge_base import KnowledgeBase
from ragsmith.retrieve.build import build_index
from ragsmith.retrieve.encoder import load_sentence_transformer
from ragsmith.retrieve.index import saved_settings
from ragsmith.retrieve.models import model_hash
from ragsmith.retrieve.routes import routes
from ragsmith.store import is_complete, publish_directory

if TYPE_CHECKING:
    import torch


def reset_weights(model: Any, seed: int) -> None:
    """Draw a transformers model's weights anew, as its configuration says."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = type(model)(model.config)
    model.load_state_dict(fresh.state_dict())


def reset_layers(modules: "Sequence[torch.nn.Module]", seed: int) -> None:
    """Draw the weights of plain layers anew, such as those of a `Dense` behind a transformer."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in (layer for module in modules for layer in module.modules()):
            if draw := getattr(layer, "reset_parameters", None):
                draw()


def random_retriever(base: KnowledgeBase, machine: Machine, batch_tokens: int, seed: int, work: Path) -> KnowledgeBase:
    """The knowledge base with an untrained encoder of the same architecture, tokenizer and pooling, and its index.

    Args:
        base: gives the architecture, the passages and the kind of index.
        machine, batch_tokens: for the index.
        seed: of the weights.
        work: the folders are kept here under what they were made from.
    """
    folder, mark = work / "retriever", "made_from.txt"
    wanted = f"{model_hash(str(base.retriever))} {seed}"
    if not is_complete(folder) or (folder / mark).read_text("utf-8") != wanted:
        shutil.rmtree(work, ignore_errors=True)
        model = load_sentence_transformer(base.retriever)
        for modules in routes(model).values():  # of a model with one encoder the same twice, with the same seed
            first: Any = modules[0]
            reset_weights(first.auto_model, seed)
            reset_layers(modules[1:], seed)

        def write(staging: Path) -> None:
            model.save(str(staging), create_model_card=False, safe_serialization=True)
            (staging / mark).write_text(wanted, "utf-8")

        publish_directory(folder, write)
    settings = saved_settings(base.index)
    index = build_index(folder, base.passages, machine, batch_tokens, work, "random index", settings)
    return KnowledgeBase(folder, index, base.passages)
