"""Tiny models that are no transformers: a vector for each word, and a text is the mean of its words."""

from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace

WORDS = (
    "query text how much space is left return disk usage of a path delete whole directory tree copy file with its "
    "permissions write an object as json wait for number seconds square root bring list into random order to what "
    "colour the car in ulm trier jena essen bonn mainz kiel worms fulda celle soest gera word sleep sqrt shuffle"
).split()
DIMENSION = 24


def static_module(words: list[str] = WORDS) -> StaticEmbedding:
    """Vectors that are the same each time; what is no word here has one in common."""
    vocabulary = {word: number for number, word in enumerate(["[UNK]", *words])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = Lowercase(), Whitespace()
    weights = torch.randn(len(vocabulary), DIMENSION, generator=torch.Generator().manual_seed(5))
    return StaticEmbedding(tokenizer, embedding_weights=weights)


def static_model(prompts: dict[str, str] | None = None) -> SentenceTransformer:
    """A StaticEmbedding alone, whose vectors have the lengths that come out."""
    return SentenceTransformer(modules=[static_module()], prompts=prompts, device="cpu")


def static_folder(folder: Path) -> Path:
    """The same, saved."""
    static_model().save(str(folder), create_model_card=False)
    return folder
