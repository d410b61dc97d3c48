"""Tiny models with one encoder for queries and another for passages."""

from collections.abc import Mapping
from pathlib import Path

import torch

from ragsmith.retrieve.encoder import load_sentence_transformer
from ragsmith.retrieve.models import resolve_model
from ragsmith.retrieve.routes import Kind, twin


def twin_folder(
    folder: Path,
    queries: str = "random:bert-1x64",
    passages: str = "random:bert-2x64",
    prompts: Mapping[Kind, str] | None = None,
) -> Path:
    """A folder with a Router; queries are cut at 24 tokens, and their weights are no part of those of passages."""
    of_queries, of_passages = (list(load_sentence_transformer(resolve_model(spec))) for spec in (queries, passages))
    of_queries[0].max_seq_length = 24
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(7)
        for parameter in of_queries[0].parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    twin(of_queries, of_passages, prompts or {}).save(str(folder), create_model_card=False)
    return folder
