"""BERT and its kin on packed sequences: BERT, RoBERTa, XLM-RoBERTa, CamemBERT and MPNet."""

from typing import TYPE_CHECKING, Any, NamedTuple

from ragsmith.retrieve.packed.attention import LOG2_E, attention
from ragsmith.retrieve.packed.layout import Layout
from ragsmith.retrieve.packed.linear import Product, int8_product, product
from ragsmith.retrieve.packed.quantized import QuantizedProduct

if TYPE_CHECKING:
    import torch

BERT_KINDS = {"bert", "roberta", "xlm-roberta", "camembert", "mpnet"}
# These count positions from the one after the padding token's number.
POSITIONS_AFTER_PADDING = {"roberta", "xlm-roberta", "camembert", "mpnet"}

ROWS = 128
# Rows that go through all products behind attention before the next do, in inference on a processor: what one product
# leaves for the next stays in the cache of its core.
ROWS_AT_ONCE = 512


class LayerWeights(NamedTuple):
    """The products of one layer; `up` with its activation.

    Only the products of normalised values may be in int8: in those of attended and activated ones, single large
    numbers leave the others few of the 256 steps, and nDCG loses by it (docs/performance.md).
    """

    qkv: Product | QuantizedProduct
    out: Product
    up: Product | QuantizedProduct
    down: Product
    dtype: "torch.dtype"  # of what lies between them


class BertBackbone:
    """A post-norm transformer (Devlin et al. 2019), computed over the parameters of the model itself.

    Args:
        model: a transformers model of one of `BERT_KINDS`.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.config = model.config
        self.kind = model.config.model_type
        # With 1 / log2(e), its products are exponents of base 2 already. MPNet's, with a bias, are those of base e.
        self.attention_scale = 1.0 if self.kind == "mpnet" else 1 / LOG2_E

    def weights(self, dtype: "torch.dtype", int8: bool = False) -> list[LayerWeights]:
        """See `Backbone`."""
        layers = list(self.model.encoder.layer)
        norms = [self.model.embeddings.LayerNorm, *(layer.output.LayerNorm for layer in layers)]
        return [self._layer_weights(layer, norm, dtype, int8) for layer, norm in zip(layers, norms, strict=False)]

    def hidden(
        self,
        token_ids: "torch.Tensor",
        layout: Layout,
        weights: list[LayerWeights],
        type_ids: "torch.Tensor | None" = None,
    ) -> "torch.Tensor":
        """See `Backbone`."""
        dtype = weights[0].dtype
        heads = self.config.num_attention_heads
        hidden = filled(self._embedded(token_ids, layout, dtype, type_ids))
        bias = self._relative_positions(layout, dtype)
        for layer, of_layer in zip(self.model.encoder.layer, weights, strict=True):
            inside = layer.attention.attn if self.kind == "mpnet" else layer.attention.self
            qkv = of_layer.qkv(hidden).view(len(hidden), 3, heads, -1)
            dropout = inside.dropout.p if inside.dropout.training else 0.0
            attended = attention(qkv, layout, self.attention_scale, bias, dropout)
            hidden = self._behind_attention(layer, of_layer, hidden, attended)
        return hidden[: layout.tokens]

    def _behind_attention(
        self, layer: Any, weights: LayerWeights, hidden: "torch.Tensor", attended: "torch.Tensor"
    ) -> "torch.Tensor":
        """The rest of a layer: each row is computed by itself."""
        import torch

        first, last = self._output_of_attention(layer), layer.output

        def computed(before: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
            between = layer_norm(first.LayerNorm, weights.out.added_to(before, own, first.dropout))
            return layer_norm(last.LayerNorm, weights.down.added_to(between, weights.up(between), last.dropout))

        if not inferred_on_processor(hidden):
            return computed(hidden, attended)
        parts = zip(torch.split(hidden, ROWS_AT_ONCE), torch.split(attended, ROWS_AT_ONCE), strict=True)
        return torch.cat([computed(*part) for part in parts])

    def _output_of_attention(self, layer: Any) -> Any:
        """What has the dropout and the norm behind attention."""
        return layer.attention if self.kind == "mpnet" else layer.attention.output

    def _layer_weights(self, layer: Any, norm: Any, dtype: "torch.dtype", int8: bool) -> LayerWeights:
        """The products of a layer whose inputs come from `norm`."""
        if self.kind == "mpnet":
            inside = layer.attention.attn
            inputs, out = [inside.q, inside.k, inside.v], inside.o
        else:
            inside = layer.attention.self
            inputs, out = [inside.query, inside.key, inside.value], layer.attention.output.dense
        # The scale of attention goes into the queries' weights, but for what `attention` gets.
        scale = float((self.config.hidden_size // self.config.num_attention_heads) ** -0.5)
        scales = (scale / self.attention_scale, 1.0, 1.0)
        up, act, name = [layer.intermediate.dense], layer.intermediate.intermediate_act_fn, str(self.config.hidden_act)
        before_up = self._output_of_attention(layer).LayerNorm
        return LayerWeights(
            int8_product(inputs, norm, scales=scales) if int8 else product(inputs, dtype, scales=scales),
            product([out], dtype),
            int8_product(up, before_up, act, name) if int8 else product(up, dtype, act, name),
            product([layer.output.dense], dtype),
            dtype,
        )

    def _embedded(
        self, token_ids: "torch.Tensor", layout: Layout, dtype: "torch.dtype", type_ids: "torch.Tensor | None"
    ) -> "torch.Tensor":
        embeddings = self.model.embeddings
        positions = layout.positions
        if self.kind in POSITIONS_AFTER_PADDING:
            positions = positions_after_padding(token_ids, layout, embeddings.padding_idx)
        summed = embeddings.word_embeddings(token_ids) + embeddings.position_embeddings(positions)
        if hasattr(embeddings, "token_type_embeddings"):
            types = embeddings.token_type_embeddings
            # One row for all tokens is added faster than it is looked up for each.
            summed = summed + (types.weight[0] if type_ids is None else types(type_ids))
        # The sum in float32, as its parameters are; everything after it in the precision of the products.
        return embeddings.dropout(embeddings.LayerNorm(summed)).to(dtype)  # type: ignore[no-any-return]

    def _relative_positions(self, layout: Layout, dtype: "torch.dtype") -> "torch.Tensor | None":
        """MPNet's learned bias for the distance of two tokens, shape (heads, longest, longest)."""
        import torch

        if self.kind != "mpnet":
            return None
        places = torch.arange(max(layout.lengths), device=layout.device)
        encoder = self.model.encoder
        buckets = encoder.relative_position_bucket(
            places[None, :] - places[:, None], num_buckets=self.config.relative_attention_num_buckets
        )
        return encoder.relative_attention_bias(buckets).permute(2, 0, 1).to(dtype)  # type: ignore[no-any-return]


def positions_after_padding(token_ids: "torch.Tensor", layout: Layout, padding: int) -> "torch.Tensor":
    """Positions as RoBERTa counts them, int64, shape (tokens,).

    A text may spell the padding token out: it takes the padding's position, and those after it count on without it.
    """
    real = token_ids.ne(padding).long()
    total = real.cumsum(0)
    before = (total - real)[layout.starts].repeat_interleave(layout.boundaries.diff())
    return (total - before) * real + padding


def filled(rows: "torch.Tensor") -> "torch.Tensor":
    """The last row put behind again, in inference on a processor, up to a multiple of `ROWS`.

    oneDNN compiles a product for each number of rows and keeps the code: memory would grow with each new batch.
    """
    import torch

    lacking = -len(rows) % ROWS
    if not lacking or not inferred_on_processor(rows):
        return rows
    return torch.cat([rows, rows[-1:].expand(lacking, -1)])


def inferred_on_processor(rows: "torch.Tensor") -> bool:
    """Whether the rows are computed on a processor with nothing to learn."""
    import torch

    return rows.device.type == "cpu" and torch.is_inference_mode_enabled()


def layer_norm(norm: Any, values: "torch.Tensor") -> "torch.Tensor":
    """A LayerNorm module over values of any precision; its own parameters stay float32."""
    from torch.nn.functional import layer_norm as functional

    weight, bias = norm.weight, norm.bias
    if values.is_cuda and values.dtype != weight.dtype:  # the kernel there wants one type
        weight, bias = weight.to(values.dtype), None if bias is None else bias.to(values.dtype)
    return functional(values, norm.normalized_shape, weight, bias, norm.eps)
