"""ModernBERT (Warner et al. 2024) on packed sequences."""

from typing import TYPE_CHECKING, Any

from ragsmith.retrieve.packed.attention import attention
from ragsmith.retrieve.packed.bert import LayerWeights, layer_norm
from ragsmith.retrieve.packed.layout import Layout
from ragsmith.retrieve.packed.linear import int8_product, product

if TYPE_CHECKING:
    import torch


class ModernBertBackbone:
    """A pre-norm transformer with rotary positions, gated products and, in most layers, a window of attention.

    Args:
        model: a transformers `ModernBertModel`.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.config = model.config

    def weights(self, dtype: "torch.dtype", int8: bool = False) -> list[LayerWeights]:
        """See `Backbone`."""
        return [
            LayerWeights(
                int8_product([layer.attn.Wqkv], layer.attn_norm) if int8 else product([layer.attn.Wqkv], dtype),
                product([layer.attn.Wo], dtype),
                int8_product([layer.mlp.Wi], layer.mlp_norm) if int8 else product([layer.mlp.Wi], dtype),
                product([layer.mlp.Wo], dtype),
                dtype,
            )
            for layer in self.model.layers
        ]

    def hidden(
        self,
        token_ids: "torch.Tensor",
        layout: Layout,
        weights: list[LayerWeights],
        type_ids: "torch.Tensor | None" = None,
    ) -> "torch.Tensor":
        """See `Backbone`."""
        import torch

        dtype = weights[0].dtype
        heads = self.config.num_attention_heads
        scale = (self.config.hidden_size // heads) ** -0.5
        embeddings = self.model.embeddings
        hidden = embeddings.drop(embeddings.norm(embeddings.tok_embeddings(token_ids))).to(dtype)
        rotations = {
            kind: self.model.rotary_emb(hidden, layout.positions[None], kind) for kind in set(self.config.layer_types)
        }
        window = self._window(layout, dtype)
        for layer, of_layer in zip(self.model.layers, weights, strict=True):
            inside = layer.attn
            qkv = of_layer.qkv(normed(layer.attn_norm, hidden)).view(layout.tokens, 3, heads, -1)
            cos, sin = rotations[layer.attention_type]
            turned = rotated(qkv[:, :2], cos[0][:, None, None], sin[0][:, None, None])
            qkv = torch.cat([turned, qkv[:, 2:]], dim=1)
            local = layer.attention_type == "sliding_attention"
            dropout = inside.attention_dropout if inside.training else 0.0
            attended = attention(qkv, layout, scale, window if local else None, dropout)
            hidden = hidden + inside.out_drop(of_layer.out(attended))
            inner, gate = of_layer.up(normed(layer.mlp_norm, hidden)).chunk(2, dim=-1)
            hidden = hidden + of_layer.down(layer.mlp.drop(layer.mlp.act(inner) * gate))
        return layer_norm(self.model.final_norm, hidden)

    def _window(self, layout: Layout, dtype: "torch.dtype") -> "torch.Tensor | None":
        """−inf for tokens that are further apart than half the local window; None when none are."""
        import torch

        longest = max(layout.lengths)
        reach = self.config.sliding_window
        if longest <= reach + 1:
            return None
        places = torch.arange(longest, device=layout.device)
        far = (places[None, :] - places[:, None]).abs() > reach
        return torch.zeros(1, longest, longest, dtype=dtype, device=layout.device).masked_fill(far, float("-inf"))


def normed(norm: Any, values: "torch.Tensor") -> "torch.Tensor":
    """A LayerNorm, or nothing in the first layer, which has an identity in its place."""
    return layer_norm(norm, values) if hasattr(norm, "normalized_shape") else values


def rotated(values: "torch.Tensor", cos: "torch.Tensor", sin: "torch.Tensor") -> "torch.Tensor":
    """Rotary position embedding (Su et al. 2021): pairs of the two halves of the last axis turned by their angles."""
    import torch

    first, second = values.float().chunk(2, dim=-1)
    turned = values.float() * cos + torch.cat((-second, first), dim=-1) * sin
    return turned.to(values.dtype)
