"""Which transformers can be computed on packed sequences."""

from typing import TYPE_CHECKING, Any, Protocol

from ragsmith.retrieve.packed.layout import Layout

if TYPE_CHECKING:
    import torch


class Backbone(Protocol):
    """A transformer without its padding."""

    def weights(self, dtype: "torch.dtype", int8: bool = False) -> Any:
        """Its weights in the precision to compute in; with gradients enabled, those reach the parameters.

        With `int8`, some products are in eight bits, and the rest is bfloat16; for inference alone.
        """

    def hidden(
        self, token_ids: "torch.Tensor", layout: Layout, weights: Any, type_ids: "torch.Tensor | None" = None
    ) -> "torch.Tensor":
        """The last hidden states.

        Args:
            token_ids: int64, shape (tokens,).
            layout: where the sequences lie.
            weights: what `weights` gave.
            type_ids: which of two texts each token is of, int64, shape (tokens,); None for a single text. Models
                without token types do not look at them.
        Returns:
            Shape (tokens, hidden), in the precision of the weights.
        """


def position_limit(model: Any) -> int | None:
    """The most tokens that a transformer has positions for; None when it does not say.

    Args:
        model: as of `packed_backbone`.
    """
    from ragsmith.retrieve.packed.bert import POSITIONS_AFTER_PADDING

    config = model.config
    places = getattr(config, "max_position_embeddings", None)
    if not isinstance(places, int) or places < 1:  # relative positions alone
        return None
    if config.model_type in POSITIONS_AFTER_PADDING:
        table = getattr(getattr(model, "embeddings", None), "padding_idx", config.pad_token_id)
        return places - int(table) - 1
    return places


def packed_backbone(model: Any) -> Backbone | None:
    """The packed computation of a transformers encoder; None for a kind that has none here.

    BERT, RoBERTa, XLM-RoBERTa, CamemBERT, MPNet and ModernBERT have one. Variants within a kind that it does not cover
    (decoders, cross-attention, adapters other than plain LoRA) have none either.

    Args:
        model: a `transformers.PreTrainedModel`, or peft's wrapper of one.
    """
    from ragsmith.retrieve.packed.bert import BERT_KINDS, BertBackbone
    from ragsmith.retrieve.packed.linear import adapters_fold
    from ragsmith.retrieve.packed.modernbert import ModernBertBackbone

    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = inner.config
    if (
        getattr(config, "is_decoder", False)
        or getattr(config, "add_cross_attention", False)
        or not adapters_fold(model)
    ):
        return None
    if config.model_type in BERT_KINDS and getattr(config, "position_embedding_type", "absolute") == "absolute":
        return BertBackbone(inner)
    if config.model_type == "modernbert":
        return ModernBertBackbone(inner)
    return None
