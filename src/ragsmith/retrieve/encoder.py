"""Texts to vectors, with any sentence-transformers folder."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ragsmith.compute.batching import length_batches, padded, token_batches
from ragsmith.compute.device import Machine, probe
from ragsmith.compute.memory import freed_memory_kept, give_back_freed
from ragsmith.compute.progress import progress
from ragsmith.retrieve.identity import model_identity
from ragsmith.retrieve.packed import Backbone, packed_backbone, position_limit
from ragsmith.retrieve.packed.layout import pack
from ragsmith.retrieve.packed.quantized import has_int8
from ragsmith.retrieve.vector_cache import VectorCache
from ragsmith.store import hash_json

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)

Kind = Literal["query", "passage"]
# What sentence-transformers calls the prompt of a passage differs between model families.
PROMPT_NAMES: dict[Kind, tuple[str, ...]] = {"query": ("query",), "passage": ("passage", "document", "corpus")}
# Modules that compute the same on packed token vectors as on padded ones; an LSTM or a CNN looks at neighbours.
PACKED_MODULES = {"Pooling", "Dense", "Normalize", "Dropout", "LayerNorm"}
# Where neither the model nor its tokenizer says how long a text may be.
USUAL_LIMIT = 512
# Texts that are tokenised and sorted at once: enough to sort well, and few enough to hold for a corpus of any size.
CHUNK, FIRST_CHUNK = 2048, 1024
MANY = 256  # texts for which it pays to keep memory between batches
# Batches of many sizes leave gaps in the memory that is kept: it is given back after so many of them.
KEPT_BATCHES = 8


class Encoder:
    """A bi-encoder: the model's own tokenizer, pooling, prompts and length; vectors of unit length.

    The transformers in `ragsmith.retrieve.packed` are computed without padding and, where the processor multiplies in
    it, in bfloat16. Other models are computed as sentence-transformers does, and the log says so.

    Args:
        model: loaded with `load_sentence_transformer`.
        machine: where it computes and in which precision. With its `int8`, `encode` multiplies in eight bits where
            the processor has instructions for it; training never does.
        max_tokens: texts are cut here; None takes the model's own limit.
        batch_tokens: tokens computed at once.
    Raises:
        ValueError: the model is no transformer, or its tokenizer gives a single text other token types than 0.
    """

    def __init__(
        self,
        model: "SentenceTransformer",
        machine: Machine,
        max_tokens: int | None = None,
        batch_tokens: int = 4096,
    ) -> None:
        self.model = model.to(machine.device)
        self.machine = machine
        self.batch_tokens = batch_tokens
        transformer = getattr(model[0], "auto_model", None)
        if transformer is None:
            raise ValueError(
                f"The model begins with a {type(model[0]).__name__}, which is no transformer. "
                "Name one whose first module is a Transformer under 'models' in globals.yml."
            )
        limits = (max_tokens, model.max_seq_length, position_limit(transformer))
        # A tokenizer without a limit says 10^30; without positions for more, none of the limits holds.
        self.max_tokens = min((int(limit) for limit in limits if limit and limit < 10**9), default=USUAL_LIMIT)
        types = model.tokenizer("a", max_length=8, truncation=True, return_token_type_ids=True).get(
            "token_type_ids"
        ) or [0]
        if any(types):
            raise ValueError(
                f"The tokenizer {type(model.tokenizer).__name__} gives the tokens of a single text the types {types}, "
                "and here all are 0. Use another model, or a tokenizer that gives 0."
            )
        flat = all(type(module).__name__ in PACKED_MODULES for module in list(model)[1:])
        self.backbone = packed_backbone(transformer) if flat else None
        if self.backbone is None:
            logger.warning(
                "%s has no packed computation here: it is computed with padding, as sentence-transformers does.",
                " → ".join([type(transformer).__name__, *(type(module).__name__ for module in list(model)[1:])]),
            )
        self.int8 = machine.int8 and self.backbone is not None and machine.device == "cpu" and has_int8()
        self._prompt_tokens: dict[str, int] = {}

    @classmethod
    def load(
        cls,
        folder: Path,
        machine: Machine | None = None,
        max_tokens: int | None = None,
        batch_tokens: int = 4096,
    ) -> "Encoder":
        """The encoder of a checked model folder; the arguments are those of the class."""
        return cls(load_sentence_transformer(folder), machine or probe(), max_tokens, batch_tokens)

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        size = self.model.get_embedding_dimension()
        if size is None:
            raise ValueError("The model does not say how long its vectors are.")
        return int(size)

    def prompt(self, kind: Kind) -> str:
        """What the model wants before a query or a passage; empty for most."""
        names = (*PROMPT_NAMES[kind], self.model.default_prompt_name)
        prompts = (self.model.prompts.get(name) for name in names if name)
        return next((prompt for prompt in prompts if prompt), "")

    def prompt_tokens(self, kind: Kind) -> int:
        """Tokens of the prompt that the pooling leaves out; 0 when it includes them or there is no prompt."""
        prompt = self.prompt(kind)
        if not prompt or all(getattr(module, "include_prompt", True) for module in self.model):
            return 0
        if prompt not in self._prompt_tokens:
            tokenizer = self.model.tokenizer
            ids = tokenizer(prompt, truncation=True, max_length=self.max_tokens)["input_ids"]
            self._prompt_tokens[prompt] = len(ids) - (ids[-1] in tokenizer.all_special_ids)
        return self._prompt_tokens[prompt]

    def token_ids(self, texts: Sequence[str], kind: Kind) -> list[list[int]]:
        """Token ids of each text with its prompt and special tokens, cut at `max_tokens`."""
        if not texts:
            return []
        prompt = self.prompt(kind)
        tokens = self.model.tokenizer(
            [prompt + text for text in texts],
            truncation=True,
            max_length=self.max_tokens,
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        return list(tokens["input_ids"])

    def weights(self) -> Any:
        """The transformer's weights in the precision that is computed in; made once for many calls of `forward`."""
        import torch

        if self.backbone is None:
            return None
        if self.int8 and torch.is_inference_mode_enabled():
            return self.backbone.weights(torch.bfloat16, int8=True)
        return self.backbone.weights(torch.bfloat16 if self.machine.precision == "bf16" else torch.float32)

    def forward(self, token_ids: Sequence[Sequence[int]], kind: Kind, weights: Any = None) -> "torch.Tensor":
        """Unit vectors of one batch; gradients flow.

        Args:
            token_ids: from `token_ids`; neighbours of equal length are computed at once.
            kind: decides which tokens are pooled.
            weights: from `weights`; None makes them.
        Returns:
            float32, shape (len(token_ids), dimension).
        """
        import torch

        features = (
            self._padded(token_ids) if self.backbone is None else self._packed(self.backbone, token_ids, weights)
        )
        if excluded := self.prompt_tokens(kind):
            features["prompt_length"] = excluded
        with torch.autocast(self.machine.device, enabled=False):
            for module in list(self.model)[1:]:
                features = module(features)
        # Normalised here too: not every model ends in a Normalize module.
        return torch.nn.functional.normalize(features["sentence_embedding"].float(), dim=1)

    def _packed(self, backbone: Backbone, token_ids: Sequence[Sequence[int]], weights: Any) -> dict[str, Any]:
        """What the transformer gives to the pooling, unpadded in the form of sentence-transformers."""
        flat, layout = pack(token_ids, self.machine.device)
        hidden = backbone.hidden(flat, layout, self.weights() if weights is None else weights)
        return {
            # Pooled in float32: sums over many tokens.
            "token_embeddings": hidden.float()[None],
            "cu_seq_lens_q": layout.boundaries,
            "seq_idx": layout.sequence_of[None],
        }

    def _padded(self, token_ids: Sequence[Sequence[int]]) -> dict[str, Any]:
        """What the transformer gives to the pooling, computed by sentence-transformers."""
        ids, shown = padded(token_ids, self.model.tokenizer.pad_token_id, self.machine.device)
        features = {"input_ids": ids, "attention_mask": shown.long()}
        with self.machine.autocast():
            features = self.model[0](features)
        return {**features, "token_embeddings": features["token_embeddings"].float()}

    def batches(self, token_ids: Sequence[Sequence[int]], batch_tokens: int | None = None) -> list[list[int]]:
        """Positions of the sequences, longest first, in batches of at most `batch_tokens` tokens."""
        divide = length_batches if self.backbone is None else token_batches
        return divide([len(ids) for ids in token_ids], batch_tokens or self.batch_tokens)

    def encode(self, texts: Sequence[str], kind: Kind, label: str = "", cache: Path | None = None) -> np.ndarray:
        """Vectors of many texts.

        Args:
            texts: any number, in any order.
            kind: decides the prompt.
            label: name of the progress bar; empty shows none.
            cache: folder of a `VectorCache` for these texts alone: only what it does not hold is computed.
        Returns:
            float32, shape (len(texts), dimension), rows in the order of `texts`, unit length.
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
        """Hash of all that decides the vector of a text: weights, tokenizer, prompt, limit and precision."""
        parts = {
            "model": model_identity(self.model),
            "prompt": self.prompt(kind),
            "prompt_tokens": self.prompt_tokens(kind),
            "max_tokens": self.max_tokens,
            "precision": "int8" if self.int8 else self.machine.precision,
            "padded": self.backbone is None,
        }
        return hash_json(parts)

    def encoded_chunks(self, texts: Sequence[str], kind: Kind) -> Iterator[tuple[int, np.ndarray]]:
        """Vectors of at most `CHUNK` texts at a time: the number of the first, and their rows as of `encode`."""
        import torch

        # Nothing is computed while the first texts are tokenised: these are few.
        bounds = [0, *range(min(FIRST_CHUNK, CHUNK, len(texts)), len(texts), CHUNK), len(texts)]

        def tokens(number: int) -> list[list[int]]:
            return self.token_ids(texts[bounds[number] : bounds[number + 1]], kind)

        training = self.model.training
        self.model.eval()
        try:
            # Giving memory back takes longer than encoding a question does.
            memory = freed_memory_kept() if len(texts) >= MANY else nullcontext()
            with ThreadPoolExecutor(1, "tokenize") as ahead, torch.inference_mode(), memory:
                weights = self.weights()
                coming = ahead.submit(tokens, 0)
                for number, first in enumerate(bounds[:-1]):
                    token_ids = coming.result()
                    if number + 2 < len(bounds):
                        coming = ahead.submit(tokens, number + 1)
                    if token_ids:
                        yield first, self._vectors(token_ids, kind, weights)
        finally:
            self.model.train(training)

    def _vectors(self, token_ids: list[list[int]], kind: Kind, weights: Any) -> np.ndarray:
        vectors = np.empty((len(token_ids), self.dimension), dtype=np.float32)
        for number, batch in enumerate(self.batches(token_ids), start=1):
            vectors[batch] = self.forward([token_ids[place] for place in batch], kind, weights).cpu().numpy()
            if number % KEPT_BATCHES == 0:
                give_back_freed()
        return vectors


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
