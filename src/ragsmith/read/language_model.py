"""Language models as readers use them: loading, padding, probabilities of labels."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragsmith.retrieve.encoder import quiet_transformers
from ragsmith.retrieve.models import ModelError, check_model_folder, read_weights

if TYPE_CHECKING:
    import torch


def load_language_model(folder: Path, kind: str, max_tokens: int, max_answer_tokens: int) -> "tuple[Any, Any]":
    """A checked folder's language model, in float32, and its tokenizer.

    Args:
        folder: a transformers directory.
        kind: `AutoModelForSeq2SeqLM` or `AutoModelForCausalLM`.
        max_tokens: read before the answer.
        max_answer_tokens: of the answer.
    Raises:
        ModelError: no model, truncated or altered, of another kind, without some of its weights, with a slow
            tokenizer, or one that has no room for so many tokens.
    """
    import transformers

    check_model_folder(folder)
    quiet_transformers()
    try:
        model, missing = read_weights(getattr(transformers, kind), folder)
    except ModelError as error:
        if "Unrecognized configuration class" not in str(error):
            raise
        wanted = "an encoder-decoder" if kind == "AutoModelForSeq2SeqLM" else "a causal language model"
        raise ModelError(
            f"{folder} is not {wanted}, and this reader needs one. Name one under models.reader in "
            f"globals.yml, or choose another reader. ({error})"
        ) from error
    if missing:
        # An encoder's folder, say: its language-modelling head would be drawn at random.
        raise ModelError(f"{folder} lacks {len(missing)} of the weights that this reader needs, such as {missing[0]}.")
    check_room(folder, model.config, max_tokens, max_answer_tokens)
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    if not tokenizer.is_fast:
        raise ModelError(f"{folder} has no fast tokenizer (tokenizer.json), which tells where a text may be cut.")
    return model, tokenizer


def check_room(folder: Path, config: Any, max_tokens: int, max_answer_tokens: int) -> None:
    """Refuse a model with fewer positions than a reader would use."""
    if config.is_encoder_decoder:
        wanted = [
            ("max_tokens", max_tokens, getattr(config, "encoder", config)),
            ("max_answer_tokens", max_answer_tokens, getattr(config, "decoder", config)),
        ]
    else:
        wanted = [("max_tokens and max_answer_tokens together", max_tokens + max_answer_tokens, config)]
    for name, tokens, part in wanted:
        places = getattr(part, "max_position_embeddings", None)
        if places is not None and tokens > places:
            raise ModelError(f"{folder} reads at most {places} tokens, and {name} is {tokens}: lower it.")


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
