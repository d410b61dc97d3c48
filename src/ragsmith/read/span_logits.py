"""Start and end logits of question-answering models, without padding where the model allows it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ragsmith.compute.batching import padded
from ragsmith.compute.device import Machine
from ragsmith.retrieve.packed import Backbone, packed_backbone
from ragsmith.retrieve.packed.layout import pack

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class PackedSpans:
    """The packed computation of a model for question answering.

    Attributes:
        backbone: of its transformer.
        head: hidden states, float32, to a start and an end logit per token.
    """

    backbone: Backbone
    head: "Callable[[torch.Tensor], torch.Tensor]"

    def weights(self, machine: Machine) -> Any:
        """The transformer's weights in the precision of the machine; made once for many calls of `logits`."""
        import torch

        return self.backbone.weights(torch.bfloat16 if machine.precision == "bf16" else torch.float32)

    def logits(
        self,
        token_ids: Sequence[Sequence[int]],
        type_ids: Sequence[Sequence[int]] | None,
        machine: Machine,
        weights: Any,
    ) -> "torch.Tensor":
        """Start and end of each token, one sequence behind the other; gradients flow.

        Args:
            token_ids: sequences; neighbours of equal length are computed at once.
            type_ids: which of the two texts each token is of; None for a model without token types.
            machine: where it is computed.
            weights: from `weights`.
        Returns:
            float32, shape (tokens of all sequences, 2).
        """
        flat, layout = pack(token_ids, machine.device)
        types = None if type_ids is None else pack(type_ids, machine.device)[0]
        # The head is a thousandth of the work, and its sums decide between spans: in float32.
        return self.head(self.backbone.hidden(flat, layout, weights, types).float())


def packed_spans(model: Any) -> PackedSpans | None:
    """The packed computation of a transformers model for question answering; None for a kind that has none here.

    Args:
        model: what `AutoModelForQuestionAnswering` gives.
    """
    head = span_head(model)
    backbone = packed_backbone(model.base_model) if head is not None else None
    return None if head is None or backbone is None else PackedSpans(backbone, head)


def span_head(model: Any) -> "Callable[[torch.Tensor], torch.Tensor] | None":
    """What a model puts on its hidden states, where that is known; two logits per token."""
    import torch

    if isinstance(getattr(model, "qa_outputs", None), torch.nn.Linear) and model.qa_outputs.out_features == 2:
        return model.qa_outputs  # type: ignore[no-any-return]
    if model.config.model_type == "modernbert":
        return lambda hidden: model.classifier(model.drop(model.head(hidden)))
    return None


def padded_logits(
    model: Any,
    token_ids: Sequence[Sequence[int]],
    type_ids: Sequence[Sequence[int]] | None,
    machine: Machine,
    padding: int,
) -> "torch.Tensor":
    """The same by the model's own forward pass, each sequence padded to the longest.

    Args:
        model: what `AutoModelForQuestionAnswering` gives.
        token_ids, type_ids, machine: as of `PackedSpans.logits`.
        padding: id of the padding token.
    """
    import torch

    ids, shown = padded(token_ids, padding, machine.device)
    features = {"input_ids": ids, "attention_mask": shown.long()}
    if type_ids is not None:
        features["token_type_ids"] = padded(type_ids, 0, machine.device)[0]
    with machine.autocast():
        output = model(**features)
    both = torch.stack([output.start_logits.float(), output.end_logits.float()], dim=-1)
    return both[shown]


def span_scores(start: "torch.Tensor", end: "torch.Tensor", longest: int) -> "torch.Tensor":
    """Scores of all spans of at most so many tokens: the sum of their two logits.

    An end does not stand before its start, nor too far behind it: a band, and not all pairs of tokens.

    Args:
        start, end: logits, shape (passages, tokens); -inf where no span may begin or end.
        longest: tokens of a span.
    Returns:
        Shape (passages, first token, tokens from the first to the last), the last of them no longer than the
        passages; -inf where no span is.
    """
    import torch

    longest = min(longest, start.shape[1])  # no span is longer, and the band would be as wide as was asked
    ends = torch.nn.functional.pad(end, (0, longest - 1), value=float("-inf")).unfold(1, longest, 1)
    return start[:, :, None] + ends
