"""The format of transformers' RAG classes, as far as reading and writing it share it.

config.json of type `rag` with the configurations of question encoder and generator, safetensors with the weights of
both, and the sub-folders question_encoder_tokenizer and generator_tokenizer.
"""

from itertools import permutations, product
from pathlib import Path

from ragsmith.read.generative import GenerativeKind
from ragsmith.retrieve.models import ModelError

ARCHITECTURES: dict[GenerativeKind, str] = {
    "rag_token": "RagTokenForGeneration",
    "rag_sequence": "RagSequenceForGeneration",
}
QUESTION_TOKENIZER, GENERATOR_TOKENIZER = "question_encoder_tokenizer", "generator_tokenizer"
TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")


def composed_passage(title: str, text: str, title_sep: str = " / ") -> str:
    """Title and text as transformers' `RagRetriever` composes them for the generator.

    >>> composed_passage('"Paris"', "The  capital.")
    'Paris / The capital.'
    """
    return f"{title.removeprefix(chr(34)).removesuffix(chr(34))}{title_sep}{text}".replace("  ", " ")


def check_apart(targets: dict[str, Path], inputs: dict[str, Path]) -> None:
    """Refuse folders of which one would be written over the other, or over what is read, by name.

    Raises:
        ModelError: with the names of both.
    """
    pairs = [*product(targets.items(), inputs.items()), *permutations(targets.items(), 2)]
    for (name, one), (other_name, other) in pairs:
        if one.resolve() in (other.resolve(), *other.resolve().parents):
            raise ModelError(f"{name} is {one} and {other_name} {other}: give each a folder of its own.")
