"""Attention within each sequence of a packed batch."""

import math
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from ragsmith.retrieve.packed.layout import Group, Layout

if TYPE_CHECKING:
    import torch

# Scores computed at once on a processor: they are written, normalised and read again. Fewer leave its threads waiting.
SCORES_AT_ONCE = 2**22
# On a processor, sequences are padded to a multiple of this for their scores alone: oneDNN keeps code and memory for
# each shape that it has multiplied, and a bucket is one product where each length would be one.
LENGTH_STEP = 16
# Exponentials of base 2 take a fifth less time than those of base e: products times this are their exponents.
LOG2_E = math.log2(math.e)
# Sums of exponentials that are exact enough are not lost below the smallest number, nor beyond the largest.
SMALLEST_SUM, LARGEST = 1e-30, 1e38


class Bucket(NamedTuple):
    """Groups whose sequences are computed at once, each padded to `length`."""

    length: int
    groups: list[Group]

    @property
    def sequences(self) -> int:
        """How many."""
        return sum(group.sequences for group in self.groups)

    def places(self) -> Iterator[tuple[Group, slice]]:
        """Each group, and which of the bucket's sequences are its own."""
        begin = 0
        for group in self.groups:
            yield group, slice(begin, begin + group.sequences)
            begin += group.sequences


def attention(
    qkv: "torch.Tensor", layout: Layout, scale: float, bias: "torch.Tensor | None" = None, dropout: float = 0.0
) -> "torch.Tensor":
    """Scaled dot-product attention (Vaswani et al. 2017), each token over the tokens of its own sequence.

    Args:
        qkv: queries, keys and values, shape (tokens, 3, heads, width); rows behind those of the layout give zeros.
        layout: where the sequences lie.
        scale: of the products.
        bias: added to the scaled products, shape (heads or 1, longest, longest): relative positions, or −inf where a
            token must not look. Its gradient is computed when it asks for one.
        dropout: share of the attention weights dropped.
    Returns:
        Shape (tokens, heads × width), of the type of `qkv`.
    """
    import torch

    if qkv.is_cuda and bias is None and not dropout and qkv.dtype in {torch.bfloat16, torch.float16}:
        return varlen_attention(qkv, layout, scale)
    if bias is None and not dropout and qkv.device.type == "cpu" and torch.is_inference_mode_enabled():
        return inferred_attention(qkv, layout, scale)
    graph = torch.is_grad_enabled() and (qkv.requires_grad or (bias is not None and bias.requires_grad))
    out: torch.Tensor = grouped_attention().apply(qkv.contiguous(), bias, layout, scale, dropout, graph)
    return out.flatten(1)


def varlen_attention(qkv: "torch.Tensor", layout: Layout, scale: float) -> "torch.Tensor":
    """The same by torch's kernel for packed sequences, which is for CUDA and half precision alone."""
    from torch.nn.attention.varlen import varlen_attn

    queries, keys, values = qkv.unbind(1)
    ends, longest = layout.boundaries, max(layout.lengths)
    out = varlen_attn(queries, keys, values, ends, ends, longest, longest, scale=scale)
    return cast("torch.Tensor", out).flatten(1)


def inferred_attention(qkv: "torch.Tensor", layout: Layout, scale: float) -> "torch.Tensor":
    """The same on a processor when there is nothing to learn: divided by the sums after the values are added up."""
    import torch

    tokens, _, heads, width = qkv.shape
    out = qkv.new_empty(tokens, heads, width)
    out[layout.tokens :] = 0
    for bucket in buckets(layout, heads):
        queries, keys, values = padded_heads(qkv, bucket)
        lowest, highest = torch.aminmax(values)
        largest = LARGEST / max(1.0, -float(lowest), float(highest))
        weights, totals = exponentials(queries, keys, bucket, heads, scale, largest)
        unpadded(torch.bmm(weights, values).div_(totals), bucket, out)
    return out.flatten(1)


def buckets(layout: Layout, heads: int) -> list[Bucket]:
    """The sequences of a layout, those of like length together, in parts of at most `SCORES_AT_ONCE` scores."""
    found: list[Bucket] = []
    held = 0
    for group in layout.groups:
        length = -(-group.length // LENGTH_STEP) * LENGTH_STEP
        room = max(1, SCORES_AT_ONCE // (heads * length**2))
        done = 0
        while done < group.sequences:
            if not found or found[-1].length != length or held >= room:
                found.append(Bucket(length, []))
                held = 0
            taken = min(group.sequences - done, room - held)
            found[-1].groups.append(Group(group.start + done * group.length, taken, group.length))
            done, held = done + taken, held + taken
    return found


def padded_heads(packed: "torch.Tensor", bucket: Bucket) -> "torch.Tensor":
    """Rows of a bucket, (rows, …, heads, width), as (…, sequences × heads, length, width).

    Behind shorter sequences there are zeros.
    """
    *inner, heads, width = packed.shape[1:]
    full = all(group.length == bucket.length for group in bucket.groups)
    make = packed.new_empty if full else packed.new_zeros
    padded = make((*inner, bucket.sequences, heads, bucket.length, width))
    order = (*range(2, 2 + len(inner)), 0, 2 + len(inner), 1, 3 + len(inner))
    for group, own in bucket.places():
        rows = packed[group.start : group.start + group.sequences * group.length]
        rows = rows.view(group.sequences, group.length, *inner, heads, width)
        padded[..., own, :, : group.length, :].copy_(rows.permute(order))
    return padded.flatten(-4, -3)


def unpadded(values: "torch.Tensor", bucket: Bucket, target: "torch.Tensor") -> None:
    """The inverse of `padded_heads` for one tensor (sequences × heads, length, width), into its rows of `target`."""
    heads, width = target.shape[1:]
    values = values.view(bucket.sequences, heads, bucket.length, width)
    for group, own in bucket.places():
        # `target` may be every third row of a larger tensor: such a view keeps its strides.
        rows = target[group.start : group.start + group.sequences * group.length]
        rows = rows.view(group.sequences, group.length, heads, width)
        rows.copy_(values[own, :, : group.length].transpose(1, 2))


def hide_padding(scores: "torch.Tensor", bucket: Bucket, heads: int) -> None:
    """Set the scores of the keys behind each sequence to −inf, and of the queries there, which nobody reads, to 0."""
    by_sequence = scores.view(bucket.sequences, heads, bucket.length, bucket.length)
    for group, own in bucket.places():
        by_sequence[own, ..., group.length :] = float("-inf")
        by_sequence[own, :, group.length :] = 0


def exponentials(
    queries: "torch.Tensor",
    keys: "torch.Tensor",
    bucket: Bucket,
    heads: int,
    scale: float,
    largest: float = LARGEST,
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Attention weights before they are divided by their sums, and these sums.

    They are exponentials of the products, without the row's largest taken off before: torch's softmax takes two to
    three times as long in bfloat16. Where a sum leaves the range of the numbers, softmax is taken after all.

    Args:
        queries, keys: from `padded_heads`; zeros behind shorter sequences.
        bucket: theirs.
        heads: of each sequence.
        scale: of the products.
        largest: most that a sum may be.
    Returns:
        Shapes (sequences × heads, length, length) and (sequences × heads, length, 1). What stands in the rows and
        columns behind a shorter sequence is finite and counts in no sum.
    """
    import torch

    weights = torch.bmm(scaled(queries, scale * LOG2_E), keys.transpose(1, 2)).exp2_()
    totals = bucket_totals(weights, bucket, heads)
    least, most = torch.aminmax(totals)
    if not (least > SMALLEST_SUM and most < largest):
        weights = torch.softmax(biased_scores(queries, keys, bucket, heads, scale, None), dim=-1)
        totals = totals.fill_(1)
    return weights, totals


def scaled(values: "torch.Tensor", scale: float) -> "torch.Tensor":
    """The values times a number; themselves where that is 1."""
    return values if math.isclose(scale, 1) else values * scale


def bucket_totals(weights: "torch.Tensor", bucket: Bucket, heads: int) -> "torch.Tensor":
    """Sum of each row's weights over the tokens of its own sequence, shape (sequences × heads, length, 1)."""
    import torch

    by_sequence = weights.view(bucket.sequences, heads, bucket.length, bucket.length)
    totals = weights.new_empty(bucket.sequences, heads, bucket.length, 1)
    for group, own in bucket.places():
        torch.sum(by_sequence[own, ..., : group.length], -1, keepdim=True, out=totals[own])
    return totals.flatten(0, 1)


def biased_scores(
    queries: "torch.Tensor",
    keys: "torch.Tensor",
    bucket: Bucket,
    heads: int,
    scale: float,
    bias: "torch.Tensor | None",
) -> "torch.Tensor":
    """What softmax is taken of, padding hidden."""
    import torch

    scores = torch.bmm(scaled(queries, scale), keys.transpose(1, 2))
    if bias is not None:
        length = min(bucket.length, bias.shape[1])
        by_head = scores.view(bucket.sequences, heads, bucket.length, bucket.length)
        by_head[..., :length, :length] += bias[:, :length, :length]
    hide_padding(scores, bucket, heads)
    return scores


@cache
def grouped_attention() -> Any:
    """The autograd function (a class, made when torch is there).

    It is written by hand because autograd would make a zero tensor of the whole batch for the slice of each group.
    """
    import torch

    class GroupedAttention(torch.autograd.Function):
        @staticmethod
        def forward(
            ctx: Any,
            qkv: torch.Tensor,
            bias: torch.Tensor | None,
            layout: Layout,
            scale: float,
            dropout: float,
            graph: bool,
        ) -> torch.Tensor:
            tokens, _, heads, width = qkv.shape
            out = qkv.new_empty(tokens, heads, width)
            out[layout.tokens :] = 0
            found = buckets(layout, heads)
            kept: list[torch.Tensor] = []
            masks: list[torch.Tensor] = []
            for bucket in found:
                queries, keys, values = padded_heads(qkv, bucket)
                if bias is None and not qkv.is_cuda:  # there, looking at the sums would wait for the card
                    # What stands behind shorter sequences meets zeros: of values here, of keys and gradients later.
                    weights, totals = exponentials(queries, keys, bucket, heads, scale)
                    weights.div_(totals)
                else:
                    weights = torch.softmax(biased_scores(queries, keys, bucket, heads, scale, bias), dim=-1)
                used = weights
                if dropout:
                    mask = torch.empty_like(weights).bernoulli_(1 - dropout).div_(1 - dropout)
                    used = weights * mask
                    masks.append(mask)
                unpadded(torch.bmm(used, values), bucket, out)
                if graph:
                    kept.append(weights)
            if graph:
                ctx.buckets, ctx.scale, ctx.masked = found, scale, bool(dropout)
                ctx.save_for_backward(qkv, bias, *kept, *masks)
            return out

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> Any:
            qkv, bias, *rest = ctx.saved_tensors
            heads = qkv.shape[2]
            gradient = gradient.contiguous()
            into = torch.empty_like(qkv)
            of_bias = torch.zeros_like(bias) if bias is not None and ctx.needs_input_grad[1] else None
            for number, bucket in enumerate(ctx.buckets):
                weights = rest[number]
                mask = rest[len(ctx.buckets) + number] if ctx.masked else None
                queries, keys, values = padded_heads(qkv, bucket)
                outer = padded_heads(gradient, bucket)
                used = weights if mask is None else weights * mask
                unpadded(torch.bmm(used.transpose(1, 2), outer), bucket, into[:, 2])
                inner = torch.bmm(outer, values.transpose(1, 2))
                if mask is not None:
                    inner.mul_(mask)
                inner = torch._softmax_backward_data(inner, weights, -1, weights.dtype)
                if of_bias is not None:
                    length = min(bucket.length, of_bias.shape[1])
                    by_head = inner.view(bucket.sequences, heads, bucket.length, bucket.length)
                    summed = by_head[..., :length, :length].sum(0).to(of_bias.dtype)
                    of_bias[:, :length, :length] += summed if len(of_bias) == heads else summed.sum(0, keepdim=True)
                # The scale on what is small: queries and gradients have fewer numbers than scores.
                unpadded(scaled(torch.bmm(inner, keys), ctx.scale), bucket, into[:, 0])
                unpadded(torch.bmm(inner.transpose(1, 2), scaled(queries, ctx.scale)), bucket, into[:, 1])
            return into, of_bias, None, None, None, None

    return GroupedAttention
