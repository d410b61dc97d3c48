"""Whether our own loops can train a retriever: they work on the tokens of a transformer."""

from pathlib import Path

from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.route_files import first_modules
from ragsmith.retrieve.routes import KINDS

# What to do instead, by the block of parameters that asks for the training.
INSTEAD = {
    "retriever_training": (
        "Set retriever_training.backend to sentence_transformers, or name a transformer under models.encoder in "
        "globals.yml."
    ),
    "rag_training": (
        "Set rag_training.mode to fine_tune and encoders to auto, which trains the reader alone, or name a "
        "transformer under models.encoder in globals.yml."
    ),
}


def untrainable(folder: Path, training: str) -> str:
    """Why a model cannot be trained by us, and what to do; empty when nothing is seen from its configuration.

    Args:
        folder: of a checked model.
        training: a key of `INSTEAD`.
    Raises:
        ModelError: as `first_modules`.
    """
    other = [name for name in first_modules(folder) if name != "Transformer"]
    if not other:
        return ""
    return (
        f"{folder} begins with a {other[0]}, which is no transformer: it encodes, and cannot be trained here. "
        f"{INSTEAD[training]}"
    )


def require_trainable(encoder: Encoder, folder: Path, training: str) -> None:
    """Refuse to begin a training with a model that sentence-transformers itself computes.

    Args:
        encoder: of the model.
        folder: where it lies.
        training: a key of `INSTEAD`.
    Raises:
        ValueError: see above.
    """
    try:
        for kind in KINDS:
            encoder.transformer(kind)
    except ValueError as error:
        raise ValueError(f"{folder}: {error} {INSTEAD[training]}") from error
