"""Texts to vectors, with any sentence-transformers folder."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ragsmith.compute.device import Machine, probe
from ragsmith.compute.memory import freed_memory_kept, give_back_freed
from ragsmith.compute.parallel import side_by_side
from ragsmith.compute.progress import progress
from ragsmith.retrieve.models import model_name
from ragsmith.retrieve.routes import KINDS, Kind, prompt_of, routes
from ragsmith.retrieve.text_tower import TextTower, not_for_tower
from ragsmith.retrieve.tower import Tower
from ragsmith.retrieve.vector_cache import VectorCache
from ragsmith.store import hash_json

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)

BATCH_TOKENS = 4096  # that are computed at once
# Texts that are tokenised and sorted at once: enough to sort well, and few enough to hold for a corpus of any size.
CHUNK, FIRST_CHUNK = 2048, 256
MANY = 256  # texts for which it pays to keep memory between batches
# Batches of many sizes leave gaps in the memory that is kept: it is given back after so many of them. Eight times as
# often costs some hundredths of the time, page by page.
KEPT_BATCHES = 64
# Batches from which each thread takes one of its own, of at least so many tokens.
MANY_BATCHES, LEAST_TOKENS = 8, 1024


class VectorError(FloatingPointError):
    """A vector that holds NaN or infinity."""


class Encoder:
    """A bi-encoder: the model's own tokenizer, pooling, prompts and length; vectors of unit length.

    Queries and passages have a tower each; of a model with one encoder for both, it is the same one.

    The transformers in `ragsmith.retrieve.packed` are computed without padding and, where the processor multiplies in
    it, in bfloat16. Other transformers are computed with padding, and all other models by sentence-transformers itself
    (`TextTower`); the log says so.

    Args:
        model: loaded with `load_sentence_transformer`.
        machine: where it computes and in which precision. With its `int8`, `encode` multiplies in eight bits where
            the processor has instructions for it; training never does.
        max_tokens: texts are cut here; None takes the model's own limit.
        batch_tokens: tokens computed at once.
    Raises:
        ValueError: the model has routes other than for queries and documents, or theirs give vectors of different
            lengths.
    """

    def __init__(
        self,
        model: "SentenceTransformer",
        machine: Machine,
        max_tokens: int | None = None,
        batch_tokens: int = BATCH_TOKENS,
    ) -> None:
        self.model = model.to(machine.device)
        # Of what is tuned and saved too, whatever the base was made for: sentence-transformers then gives our scores.
        self.model.similarity_fn_name = "cosine"
        self.machine = machine
        self.batch_tokens = batch_tokens
        modules = routes(model)
        query = self._tower(modules["query"], max_tokens)
        one = modules["passage"] is modules["query"]
        passage = query if one else self._tower(modules["passage"], max_tokens)
        if query.dimension != passage.dimension:
            raise ValueError(
                f"The model encodes queries in {query.dimension} dimensions and passages in {passage.dimension}: they "
                "cannot be compared. Give both routes vectors of the same length."
            )
        self.towers: dict[Kind, Tower | TextTower] = {"query": query, "passage": passage}

    def _tower(self, modules: "list[torch.nn.Module]", max_tokens: int | None) -> Tower | TextTower:
        reason = not_for_tower(modules[0])
        if reason:
            return TextTower(self.model, modules, self.machine, max_tokens, reason)
        return Tower(modules, self.machine, max_tokens)

    @classmethod
    def load(
        cls,
        folder: Path,
        machine: Machine | None = None,
        max_tokens: int | None = None,
        batch_tokens: int = BATCH_TOKENS,
    ) -> "Encoder":
        """The encoder of a checked model folder; the arguments are those of the class."""
        model = load_sentence_transformer(folder)
        if model.similarity_fn_name != "cosine":
            say_that_cosines_are_compared(folder, model.similarity_fn_name)
        return cls(model, machine or probe(), max_tokens, batch_tokens)

    @property
    def different_towers(self) -> list[Tower | TextTower]:
        """One for a model that encodes both kinds alike, else two."""
        return list(dict.fromkeys(self.towers.values()))

    def transformer(self, kind: Kind) -> Tower:
        """The tower of a kind of text, for what works on tokens: training, and encoding without padding.

        Raises:
            ValueError: sentence-transformers itself computes it.
        """
        tower = self.towers[kind]
        if isinstance(tower, TextTower):
            raise ValueError(f"{tower.reason} It encodes, and cannot be trained here.")
        return tower

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self.towers["query"].dimension

    @property
    def max_tokens(self) -> int:
        """Where the longest texts are cut; `sys.maxsize` where none is."""
        return max(tower.max_tokens for tower in self.different_towers)

    def prompt(self, kind: Kind) -> str:
        """What the model wants before a query or a passage; empty for most."""
        return prompt_of(self.model, kind)

    def token_ids(self, texts: Sequence[str], kind: Kind) -> list[list[int]]:
        """Token ids of each text with its prompt and special tokens, cut at the limit."""
        prompt = self.prompt(kind)
        return self.transformer(kind).token_ids([prompt + text for text in texts])

    def weights(self, kinds: Sequence[Kind] = KINDS) -> dict[Kind, Any]:
        """The weights for texts of these kinds in the precision that is computed in, for many calls of `forward`."""
        towers = {kind: self.transformer(kind) for kind in kinds}
        made = {tower: tower.weights() for tower in dict.fromkeys(towers.values())}
        return {kind: made[tower] for kind, tower in towers.items()}

    def forward(
        self, token_ids: Sequence[Sequence[int]], kind: Kind, weights: Mapping[Kind, Any] | None = None
    ) -> "torch.Tensor":
        """Unit vectors of one batch; gradients flow.

        Args:
            token_ids: from `token_ids`; neighbours of equal length are computed at once.
            kind: of the texts.
            weights: from `weights`; None makes them.
        Returns:
            float32, shape (len(token_ids), dimension).
        """
        return self.transformer(kind).forward(token_ids, self.prompt(kind), None if weights is None else weights[kind])

    def batches(
        self, token_ids: Sequence[Sequence[int]], kind: Kind, batch_tokens: int | None = None
    ) -> list[list[int]]:
        """Positions of the sequences, longest first, in batches of at most `batch_tokens` tokens."""
        return self.transformer(kind).batches(token_ids, batch_tokens or self.batch_tokens)

    def encode(self, texts: Sequence[str], kind: Kind, label: str = "", cache: Path | None = None) -> np.ndarray:
        """Vectors of many texts.

        Args:
            texts: any number, in any order.
            kind: decides tower and prompt.
            label: name of the progress bar; empty shows none.
            cache: folder of a `VectorCache` for these texts alone: only what it does not hold is computed.
        Returns:
            float32, shape (len(texts), dimension), rows in the order of `texts`, unit length.
        Raises:
            VectorError: a vector is not finite.
        """
        if cache is not None:
            stored = VectorCache(cache, self.identity(kind), self.dimension)
            with progress(label, total=len(texts)) as advance:
                return stored.vectors(texts, lambda missing: self.encoded_chunks(missing, kind), advance)
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        with progress(label, total=len(texts)) as advance:
            for first, block in self.encoded_chunks(texts, kind):
                vectors[first : first + len(block)] = block
                advance(len(block))
        return vectors

    def identity(self, kind: Kind) -> str:
        """Hash of all that decides the vector of such a text: its tower, prompt, limit and precision."""
        return hash_json(self.towers[kind].key(self.prompt(kind)))

    def encoded_chunks(self, texts: Sequence[str], kind: Kind) -> Iterator[tuple[int, np.ndarray]]:
        """Vectors of at most `CHUNK` texts at a time: the number of the first, and their rows as of `encode`."""
        for first, vectors in self._computed_chunks(texts, kind):
            # Neither search nor mining would say what is wrong with them, and a cache would keep them.
            if not np.isfinite(vectors.sum(dtype=np.float64)):
                bad = int(np.argmin(np.isfinite(vectors).all(axis=1)))
                raise VectorError(
                    "The encoder gives a vector of numbers that are none (NaN or infinite), first of the text "
                    f"{texts[first + bad][:60]!r}: its weights are damaged, or its precision is too low. Set "
                    "compute.precision to fp32 in globals.yml, or take another encoder."
                )
            yield first, vectors

    def _computed_chunks(self, texts: Sequence[str], kind: Kind) -> Iterator[tuple[int, np.ndarray]]:
        import torch

        # Nothing is computed while the first texts are tokenised: these are few.
        bounds = [0, *range(min(FIRST_CHUNK, CHUNK, len(texts)), len(texts), CHUNK), len(texts)]

        def tokens(number: int) -> list[list[int]]:
            return self.token_ids(texts[bounds[number] : bounds[number + 1]], kind)

        tower, prompt = self.towers[kind], self.prompt(kind)
        training = self.model.training
        self.model.eval()
        try:
            # Giving memory back takes longer than encoding a question does.
            memory = freed_memory_kept() if len(texts) >= MANY else nullcontext()
            with ThreadPoolExecutor(1, "tokenize") as ahead, torch.inference_mode(), memory:
                if isinstance(tower, TextTower):
                    for first, last in pairwise(bounds):
                        if first < last:
                            yield first, tower.vectors(texts[first:last], kind, prompt)
                    return
                weights = self.weights((kind,))
                coming = ahead.submit(tokens, 0)
                for number, first in enumerate(bounds[:-1]):
                    token_ids = coming.result()
                    if number + 2 < len(bounds):
                        coming = ahead.submit(tokens, number + 1)
                    if token_ids:
                        yield first, self._vectors(token_ids, kind, weights)
        finally:
            self.model.train(training)

    def _vectors(self, token_ids: list[list[int]], kind: Kind, weights: Mapping[Kind, Any]) -> np.ndarray:
        import torch

        vectors = np.empty((len(token_ids), self.dimension), dtype=np.float32)

        def work(batch: list[int]) -> None:
            with torch.inference_mode():
                found = self.forward([token_ids[place] for place in batch], kind, weights)
                vectors[batch] = found.cpu().numpy()

        many = sum(map(len, token_ids)) >= MANY_BATCHES * self.batch_tokens
        apart = many and self.machine.device == "cpu" and self.transformer(kind).backbone is not None
        threads = torch.get_num_threads() if apart else 1
        # Each thread has a batch of its own: together they are as large as one, unless that makes them tiny.
        size = min(self.batch_tokens, max(LEAST_TOKENS, self.batch_tokens // threads))
        batches = self.batches(token_ids, kind, size)
        done = side_by_side(work, batches, self.machine) if apart else map(work, batches)
        for number, _ in enumerate(done, start=1):
            if number % (KEPT_BATCHES * threads) == 0:
                give_back_freed()
        return vectors


@cache
def say_that_cosines_are_compared(folder: Path, similarity: str) -> None:
    """Warn, once per process, of a model whose authors compare its vectors otherwise."""
    logger.warning(
        "%s was made to be compared by %s: here its vectors have unit length and are compared by cosine, which may "
        "find less than its authors say; what is tuned from it is made for cosines.",
        model_name(folder),
        similarity,
    )


def load_sentence_transformer(folder: Path) -> "SentenceTransformer":
    """A checked folder as a model on the CPU, in float32, from safetensors alone."""
    from sentence_transformers import SentenceTransformer

    quiet_transformers()
    return SentenceTransformer(
        str(folder),
        device="cpu",
        trust_remote_code=False,
        local_files_only=True,
        model_kwargs={"use_safetensors": True, "dtype": "float32", "attn_implementation": "eager"},
    )


def quiet_transformers() -> None:
    """Turn off the progress bars of loading and saving: they last a blink and hide the step's own."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
