"""Texts to vectors, with any sentence-transformers folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from ragsmith.compute.batching import length_batches
from ragsmith.compute.device import Machine, probe
from ragsmith.compute.progress import progress

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

Kind = Literal["query", "passage"]
# What sentence-transformers calls the prompt of a passage differs between model families.
PROMPT_NAMES: dict[Kind, tuple[str, ...]] = {"query": ("query",), "passage": ("passage", "document", "corpus")}


class Encoder:
    """A bi-encoder: the model's own tokenizer, pooling, prompts and length; vectors of unit length.

    Args:
        model: loaded with `load_sentence_transformer`.
        machine: where it computes and in which precision.
        max_tokens: texts are cut here; None takes the model's own limit.
        batch_tokens: padded tokens computed at once.
    """

    def __init__(
        self, model: "SentenceTransformer", machine: Machine, max_tokens: int | None = None, batch_tokens: int = 8192
    ) -> None:
        self.model = model.to(machine.device)
        self.machine = machine
        limit = int(model.max_seq_length or 512)
        self.max_tokens = min(max_tokens or limit, limit)
        self.batch_tokens = batch_tokens

    @classmethod
    def load(
        cls, folder: Path, machine: Machine | None = None, max_tokens: int | None = None, batch_tokens: int = 8192
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
        prompts = (self.model.prompts.get(name) for name in PROMPT_NAMES[kind])
        return next((prompt for prompt in prompts if prompt), "")

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

    def forward(self, token_ids: Sequence[Sequence[int]]) -> "torch.Tensor":
        """Unit vectors, shape (len(token_ids), dimension) float32, of one padded batch; gradients flow."""
        import torch

        longest = max(len(ids) for ids in token_ids)
        padding = self.model.tokenizer.pad_token_id
        ids = torch.full((len(token_ids), longest), padding, dtype=torch.long)
        mask = torch.zeros((len(token_ids), longest), dtype=torch.long)
        for row, sequence in enumerate(token_ids):
            ids[row, : len(sequence)] = torch.tensor(sequence)
            mask[row, : len(sequence)] = 1
        features = {"input_ids": ids.to(self.machine.device), "attention_mask": mask.to(self.machine.device)}
        with self.machine.autocast():
            vectors = self.model(features)["sentence_embedding"]
        # Normalised here too: not every model ends in a Normalize module, and bf16 leaves lengths off by 1e-3.
        return torch.nn.functional.normalize(vectors.float(), dim=1)

    def batches(self, token_ids: Sequence[Sequence[int]], batch_tokens: int | None = None) -> list[list[int]]:
        """Positions of the sequences, longest first, in batches of at most `batch_tokens` padded tokens."""
        return length_batches([len(ids) for ids in token_ids], batch_tokens or self.batch_tokens)

    def encode(self, texts: Sequence[str], kind: Kind, label: str = "") -> np.ndarray:
        """Vectors of many texts.

        Args:
            texts: any number, in any order.
            kind: decides the prompt.
            label: name of the progress bar; empty shows none.
        Returns:
            float32, shape (len(texts), dimension), rows in the order of `texts`, unit length.
        """
        import torch

        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        token_ids = self.token_ids(texts, kind)
        training = self.model.training
        self.model.eval()
        with torch.inference_mode(), progress(label and f"{label}, tokens", total=sum(map(len, token_ids))) as advance:
            for batch in self.batches(token_ids):
                vectors[batch] = self.forward([token_ids[position] for position in batch]).cpu().numpy()
                advance(sum(len(token_ids[position]) for position in batch))
        self.model.train(training)
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
