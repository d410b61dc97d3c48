"""One side of a bi-encoder that sentence-transformers computes by itself, from the text to the vector."""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from ragsmith.compute.device import Machine
from ragsmith.retrieve.route_modules import RouteModules
from ragsmith.retrieve.routes import ROUTE_NAMES, Kind

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)


class TextTower(RouteModules):
    """Texts to unit vectors by the model's own `encode`, in float32: for models that `Tower` cannot compute.

    It knows texts and no tokens, so it encodes and is not trained.

    Args:
        model: whose `encode` is called.
        modules: of the route, in order.
        machine: its precision does not count.
        max_tokens: as of `Encoder`; a model without a length of its own reads whole texts, and the log says so.
        reason: from `not_for_tower`.

    Attributes:
        max_tokens: where a text is cut; `sys.maxsize` where none is.
    """

    def __init__(
        self,
        model: "SentenceTransformer",
        modules: "Sequence[torch.nn.Module]",
        machine: Machine,
        max_tokens: int | None,
        reason: str,
    ) -> None:
        super().__init__(modules, machine)
        self.model = model
        self.reason = reason
        # StaticEmbedding says infinity, and BoW nothing.
        cuts = isinstance(getattr(self.modules[0], "max_seq_length", None), int)
        self.max_tokens = self.token_limit(max_tokens) if cuts else sys.maxsize
        logger.warning(
            "%s The vectors are computed by sentence-transformers itself, in float32: compute.precision does not "
            "count for them.",
            reason,
        )
        if max_tokens is not None and not cuts:
            logger.warning(
                "Texts are not cut at %d tokens: a %s reads them whole.", max_tokens, type(self.modules[0]).__name__
            )

    def vectors(self, texts: Sequence[str], kind: Kind, prompt: str) -> np.ndarray:
        """Unit vectors of some texts; only zeros for one in which the model finds nothing, such as an empty one.

        Args:
            texts: held in memory at once.
            kind: of the texts.
            prompt: put before each.
        Returns:
            float32, shape (len(texts), dimension), in the order of `texts`.
        """
        with self._cut():
            return self.model.encode(
                list(texts),
                prompt=prompt,
                task=ROUTE_NAMES[kind],
                truncate_dim=self.dimension,  # whole vectors, as of a `Tower`
                normalize_embeddings=True,
                show_progress_bar=False,
            ).astype(np.float32, copy=False)

    @contextmanager
    def _cut(self) -> Iterator[None]:
        """Let the model cut at the limit in the body; afterwards it has its own again, which is saved with it."""
        first: Any = self.modules[0]
        own = getattr(first, "max_seq_length", None)
        if self.max_tokens in (own, sys.maxsize):
            yield
            return
        first.max_seq_length = self.max_tokens
        try:
            yield
        finally:
            first.max_seq_length = own

    def key(self, prompt: str) -> dict[str, Any]:
        """All that decides the vector of a text that begins with this prompt."""
        return {
            "model": self.identity(),
            "prompt": prompt,
            "max_tokens": self.max_tokens,
            "computed_by": "sentence-transformers",
        }


def not_for_tower(first: Any) -> str:
    """Why a `Tower` cannot compute a model, as a sentence; empty where it can.

    Args:
        first: the module that the model, or its route, begins with.
    """
    transformer = getattr(first, "auto_model", None)
    if transformer is None:
        return f"The model begins with a {type(first).__name__}, which is no transformer."
    # CLIP's text tower, for one, ends in a vector of the text.
    if getattr(first, "module_output_name", "token_embeddings") != "token_embeddings":
        return f"The model begins with a {type(transformer).__name__}, which gives no vectors of tokens."
    # Only where it gives them unasked do they reach the model.
    types = first.tokenizer("a", max_length=8, truncation=True).get("token_type_ids") or [0]
    if any(types):
        return (
            f"The tokenizer {type(first.tokenizer).__name__} gives the tokens of a single text the types {types}, and "
            "ours is a computation for 0 alone."
        )
    return ""
