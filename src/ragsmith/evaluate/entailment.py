"""A cross-encoder for natural language inference, as the one that says whether passages support an answer."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ragsmith.compute.batching import length_batches
from ragsmith.compute.device import Machine
from ragsmith.compute.progress import progress
from ragsmith.evaluate._windows import shortened, windows
from ragsmith.evaluate.citations import Claim
from ragsmith.retrieve.models import ModelError, check_model_folder
from ragsmith.retrieve.teacher import load_cross_encoder

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

LABEL = "entailment"
# Such models are trained on short premises; one that could read 8,192 tokens has not learnt to.
MOST_TOKENS = 512
# A piece of a text may have a token more than it had inside the text.
SPARE_TOKENS = 4
CLAIMS_AT_ONCE = 256
CHARACTERS_PER_TOKEN = 4  # of English; only batches are measured with it


class EntailmentModel:
    """Probability that a passage entails "question answer", the highest over windows of the passage.

    The statement is question and answer in one line: so ALCE does it for short answers, and NLI models take it well.
    Question and answer may have a quarter of the model's length each; the rest is the passage's, in windows that
    overlap by a quarter. Several passages are joined by line ends, as ALCE joins them.

    Args:
        model: with several scores per pair.
        entails: which of them is that of entailment.
        machine: where it computes and in which precision.
        batch_tokens: padded tokens computed at once, about.
    """

    def __init__(self, model: "CrossEncoder", entails: int, machine: Machine, batch_tokens: int = 8192) -> None:
        self.model, self.entails = model.to(machine.device).eval(), entails
        self.machine, self.batch_tokens = machine, batch_tokens
        self.max_tokens = min(int(model.max_seq_length or MOST_TOKENS), MOST_TOKENS)

    @classmethod
    def load(cls, folder: Path, machine: Machine, batch_tokens: int = 8192) -> "EntailmentModel":
        """The NLI model of a folder; the other arguments are those of the class.

        Raises:
            ModelError: no model, truncated or altered, no safetensors weights, or no label "entailment".
        """
        check_model_folder(folder)
        entails = entailment_label(folder)
        return cls(load_cross_encoder(folder), entails, machine, batch_tokens)

    def __call__(self, claims: Sequence[Claim], /) -> npt.NDArray[np.float64]:
        """As `citations.Supports`."""
        support = np.zeros(len(claims))
        with progress("checking citations", total=len(claims)) as advance:
            for begin in range(0, len(claims), CLAIMS_AT_ONCE):
                part = claims[begin : begin + CLAIMS_AT_ONCE]
                pairs = [self.pairs(claim) for claim in part]
                owner = np.repeat(np.arange(len(part)), [len(each) for each in pairs]) + begin
                np.maximum.at(support, owner, self.compute([pair for each in pairs for pair in each]))
                advance(len(part))
        return support

    def pairs(self, claim: Claim) -> list[tuple[str, str]]:
        """Premise and hypothesis for each window of the claim's passages."""
        tokenizer: Any = self.model.tokenizer
        quarter = self.max_tokens // 4
        question, answer = (shortened(tokenizer, text, quarter) for text in (claim.question, claim.answer))
        hypothesis = f"{question.strip()} {answer.strip()}"
        taken = len(tokenizer(hypothesis, add_special_tokens=False, verbose=False)["input_ids"])
        room = max(1, self.max_tokens - taken - tokenizer.num_special_tokens_to_add(pair=True) - SPARE_TOKENS)
        return [(premise, hypothesis) for premise in windows(tokenizer, "\n".join(claim.passages), room)]

    def compute(self, pairs: list[tuple[str, str]]) -> npt.NDArray[np.float64]:
        """Probability of entailment for each pair, in batches of like length."""
        from torch.nn import Identity

        lengths = [
            min(self.max_tokens, 3 + (len(premise) + len(hypothesis)) // CHARACTERS_PER_TOKEN)
            for premise, hypothesis in pairs
        ]
        found = np.empty(len(pairs))
        with self.machine.autocast():
            for batch in length_batches(lengths, self.batch_tokens):
                texts: list[Any] = [pairs[place] for place in batch]
                # A model may bring an activation of its own, and softmax twice is no probability.
                shares = self.model.predict(
                    texts, batch_size=len(batch), show_progress_bar=False, activation_fn=Identity(), apply_softmax=True
                )
                found[batch] = shares[:, self.entails]
        return found


def entailment_label(folder: Path) -> int:
    """Which output of the model in a folder is that of entailment.

    Raises:
        ModelError: it is no classifier of pairs, or none of its labels is "entailment" in any case.
    """
    hint = "Name an NLI cross-encoder, such as cross-encoder/nli-deberta-v3-small"
    config = read_config(folder)
    if not any(str(name).endswith("ForSequenceClassification") for name in config.get("architectures") or []):
        raise ModelError(f"{folder} is no classifier of pairs: {architecture(config)}. {hint}.")
    labels = config.get("id2label") or {}
    found = [int(place) for place, label in labels.items() if str(label).strip().casefold() == LABEL]
    if len(labels) < 2 or len(found) != 1:
        named = ", ".join(repr(str(label)[:40]) for label in list(labels.values())[:10])
        raise ModelError(
            f"{folder} has no label {LABEL!r}; its labels: {named or 'none'}. {hint}, or, if this is one, name its "
            f"labels under id2label in its config.json."
        )
    return found[0]


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a model with one file of weights, or a list of them, beside it.

    Raises:
        ModelError: it is missing or no JSON object, or the weights beside it are in another format than safetensors.
    """
    path = folder / "config.json"
    try:
        config: Any = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} is missing, truncated or altered.") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path} is truncated or altered: it is no JSON object.")
    if not any((folder / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json")):
        raise ModelError(f"{folder} has no model.safetensors beside its config.json.")
    return config


def architecture(config: dict[str, Any]) -> str:
    """What the configuration says that the model is, for an error text."""
    names = config.get("architectures")
    return f"its architecture is {', '.join(map(str, names))[:100]}" if names else "it names no architecture"
