"""One side of a bi-encoder: a transformer, what follows it, and its tokenizer."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ragsmith.compute.batching import length_batches, padded, token_batches
from ragsmith.compute.device import Machine
from ragsmith.retrieve.packed import Backbone, packed_backbone
from ragsmith.retrieve.packed.layout import pack
from ragsmith.retrieve.packed.quantized import has_int8
from ragsmith.retrieve.route_modules import RouteModules

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

# Modules that compute the same on packed token vectors as on padded ones; an LSTM or a CNN looks at neighbours.
PACKED_MODULES = {"Pooling", "Dense", "Normalize", "Dropout", "LayerNorm"}


class Tower(RouteModules):
    """Texts to unit vectors, by the modules of one route; `Encoder` has one for queries and one for passages.

    Args:
        modules: as sentence-transformers applies them; `not_for_tower` has nothing against the first.
        machine, max_tokens: as of `Encoder`.
    """

    def __init__(self, modules: "Sequence[torch.nn.Module]", machine: Machine, max_tokens: int | None = None) -> None:
        super().__init__(modules, machine)
        self.max_tokens = self.token_limit(max_tokens)
        self.backbone: Backbone | None = None
        self.find_backbone()
        if self.backbone is None:
            logger.warning(
                "%s has no packed computation here: it is computed with padding, as sentence-transformers does.",
                " → ".join([type(self.transformer).__name__, *(type(module).__name__ for module in self.modules[1:])]),
            )
        lacking = self._lacks_for_int8() if machine.int8 else ""
        self.int8 = machine.int8 and not lacking
        if lacking:
            logger.warning("int8 was asked for, and %s: encoding is in %s.", lacking, machine.precision)
        self._prompt_tokens: dict[str, int] = {}

    @property
    def transformer(self) -> Any:
        """The transformers model, or peft's wrapper of one."""
        first: Any = self.modules[0]
        return first.auto_model

    def find_backbone(self) -> None:
        """Choose the computation that fits the transformer; again after adapters were put on it."""
        flat = all(type(module).__name__ in PACKED_MODULES for module in self.modules[1:])
        self.backbone = packed_backbone(self.transformer) if flat else None

    def _lacks_for_int8(self) -> str:
        """Why it cannot be computed in eight bits; empty when it can."""
        if self.backbone is None:
            return "the model has no packed computation here"
        if self.machine.device != "cpu":
            return "that is for processors"
        return "" if has_int8() else "this processor has no instructions for it (AVX512-VNNI, AMX)"

    def prompt_tokens(self, prompt: str) -> int:
        """Tokens of a prompt that the pooling leaves out; 0 when it includes them or the prompt is empty."""
        if not prompt or all(getattr(module, "include_prompt", True) for module in self.modules):
            return 0
        if prompt not in self._prompt_tokens:
            ids = self.tokenizer(prompt, truncation=True, max_length=self.max_tokens)["input_ids"]
            self._prompt_tokens[prompt] = len(ids) - (ids[-1] in self.tokenizer.all_special_ids)
        return self._prompt_tokens[prompt]

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text with its special tokens, cut at `max_tokens`."""
        if not texts:
            return []
        tokens = self.tokenizer(
            list(texts),
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

    def forward(self, token_ids: Sequence[Sequence[int]], prompt: str = "", weights: Any = None) -> "torch.Tensor":
        """Unit vectors of one batch; gradients flow.

        Args:
            token_ids: from `token_ids`; neighbours of equal length are computed at once.
            prompt: that the texts begin with: it decides which tokens are pooled.
            weights: from `weights`; None makes them.
        Returns:
            float32, shape (len(token_ids), dimension).
        """
        import torch

        features = (
            self._padded(token_ids) if self.backbone is None else self._packed(self.backbone, token_ids, weights)
        )
        if excluded := self.prompt_tokens(prompt):
            features["prompt_length"] = excluded
        with torch.autocast(self.machine.device, enabled=False):
            for module in self.modules[1:]:
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
        ids, shown = padded(token_ids, self.tokenizer.pad_token_id, self.machine.device)
        features = {"input_ids": ids, "attention_mask": shown.long()}
        with self.machine.autocast():
            features = self.modules[0](features)
        return {**features, "token_embeddings": features["token_embeddings"].float()}

    def batches(self, token_ids: Sequence[Sequence[int]], batch_tokens: int) -> list[list[int]]:
        """Positions of the sequences, longest first, in batches of at most `batch_tokens` tokens."""
        divide = length_batches if self.backbone is None else token_batches
        return divide([len(ids) for ids in token_ids], batch_tokens)

    def key(self, prompt: str) -> dict[str, Any]:
        """All that decides the vector of a text that begins with this prompt."""
        return {
            "model": self.identity(),
            "prompt": prompt,
            "prompt_tokens": self.prompt_tokens(prompt),
            "max_tokens": self.max_tokens,
            "precision": "int8" if self.int8 else self.machine.precision,
            "padded": self.backbone is None,
        }
