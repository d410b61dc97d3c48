"""Language models as readers use them: loading, padding, probabilities of labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragsmith.retrieve.encoder import quiet_transformers
from ragsmith.retrieve.models import ModelError, check_model_folder

if TYPE_CHECKING:
    import torch


def load_language_model(folder: Path, kind: str, max_tokens: int) -> "tuple[Any, Any]":
    """A checked folder's language model, in float32, and its tokenizer.

    Raises:
        ModelError: no model, truncated or altered, of another kind, or one that reads less than `max_tokens`.
    """
    import torch
    import transformers

    check_model_folder(folder)
    quiet_transformers()
    try:
        model = getattr(transformers, kind).from_pretrained(
            str(folder), use_safetensors=True, dtype=torch.float32, local_files_only=True, trust_remote_code=False
        )
    except ValueError as error:
        wanted = "an encoder-decoder" if kind == "AutoModelForSeq2SeqLM" else "a causal language model"
        raise ModelError(
            f"{folder} is not {wanted}, and this reader needs one. Name one under models.reader in "
            f"globals.yml, or choose another reader. transformers says: {str(error).splitlines()[0]}"
        ) from error
    config = getattr(model.config, "encoder", model.config)
    places = getattr(config, "max_position_embeddings", None)
    if places is not None and max_tokens > places:
        raise ModelError(f"{folder} reads at most {places} tokens, and max_tokens is {max_tokens}: lower it.")
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    return model, tokenizer


def padded(rows: Sequence[Sequence[int]], pad: int, device: str) -> "tuple[torch.Tensor, torch.Tensor]":
    """Rows of ids side by side: int64 and bool (True where an id stands), both (rows, longest)."""
    import torch

    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), pad, dtype=torch.long)
    shown = torch.zeros((len(rows), longest), dtype=torch.bool)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(list(row), dtype=torch.long)
        shown[place, : len(row)] = True
    return ids.to(device), shown.to(device)


def of_labels(
    logits: "torch.Tensor", labels: "torch.Tensor", uniform: bool, whole: bool
) -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]":
    """Log probabilities of labels, their mean over the vocabulary where asked (else 0), and all where asked.

    Args:
        logits: shape (rows, tokens, vocabulary).
        labels: shape (rows, tokens).
        uniform, whole: see above.
    """
    import torch

    logits = logits.float()
    if whole or uniform:
        log_probs = logits.log_softmax(dim=-1)
        tokens = log_probs.gather(2, labels[:, :, None])[:, :, 0]
        return tokens, log_probs.mean(dim=-1), log_probs if whole else None
    # The distribution itself is not needed, and is as large as the logits.
    tokens = logits.gather(2, labels[:, :, None])[:, :, 0] - logits.logsumexp(dim=-1)
    return tokens, torch.zeros_like(tokens), None


def as_output(states: "torch.Tensor") -> Any:
    """Encoder states as `generate` and the decoder take them."""
    from transformers.modeling_outputs import BaseModelOutput

    return BaseModelOutput(last_hidden_state=states)
