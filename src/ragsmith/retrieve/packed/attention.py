"""Attention within each sequence of a packed batch."""

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from ragsmith.retrieve.packed.layout import Group, Layout

if TYPE_CHECKING:
    import torch

# Scores computed at once on a processor: they are written, normalised and read again. Fewer leave its threads waiting.
SCORES_AT_ONCE = 2**22
# In inference, sequences are padded to a multiple of this for their scores alone: oneDNN keeps two megabytes for each
# shape that it has multiplied, and a bucket is one product where each length would be one.
LENGTH_STEP = 16
# Sums of exponentials that are exact enough are not lost below the smallest number, nor beyond the largest.
SMALLEST_SUM, LARGEST = 1e-30, 1e38


class Bucket(NamedTuple):
    """Groups whose sequences are computed at once, each padded to `length`."""

    length: int
    groups: list[Group]


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
    """The same on a processor when there is nothing to learn.

    The weights are exponentials divided by their sum after the values are summed, without the row's largest product
    taken off before: torch's softmax takes two to three times as long in bfloat16. Where the sums leave the range of
    the numbers, softmax is taken after all.
    """
    import torch

    tokens, _, heads, width = qkv.shape
    out = qkv.new_empty(tokens, heads, width)
    out[layout.tokens :] = 0
    for bucket in buckets(layout, heads):
        queries, keys, values = padded_heads(qkv, bucket)
        if scale != 1:
            queries = queries * scale
        weights = torch.bmm(queries, keys.transpose(1, 2)).exp_()
        totals = bucket_totals(weights, bucket, heads)
        least, most = torch.aminmax(totals)
        largest = LARGEST / values.abs().amax().clamp_min_(1)
        if not (least > SMALLEST_SUM and most < largest):
            weights = torch.bmm(queries, keys.transpose(1, 2))
            begin = 0
            for group in bucket.groups:
                end = begin + group.sequences * heads
                weights[begin:end, :, group.length :] = -torch.inf
                begin = end
            weights, totals = torch.softmax(weights, dim=-1), totals.fill_(1)
        joined = torch.bmm(weights, values).div_(totals).view(-1, heads, bucket.length, width)
        begin = 0
        for group in bucket.groups:
            end = begin + group.sequences
            rows = out[group.start : group.start + group.sequences * group.length]
            rows.view(group.sequences, group.length, heads, width).copy_(
                joined[begin:end, :, : group.length].transpose(1, 2)
            )
            begin = end
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


def padded_heads(qkv: "torch.Tensor", bucket: Bucket) -> "torch.Tensor":
    """Rows of a bucket, zeros behind each shorter sequence: shape (3, sequences × heads, length, width)."""
    _, _, heads, width = qkv.shape
    full = all(group.length == bucket.length for group in bucket.groups)
    sequences = sum(group.sequences for group in bucket.groups)
    make = qkv.new_empty if full else qkv.new_zeros
    padded = make((3, sequences, heads, bucket.length, width))
    begin = 0
    for group in bucket.groups:
        end = begin + group.sequences
        rows = qkv[group.start : group.start + group.sequences * group.length]
        rows = rows.view(group.sequences, group.length, 3, heads, width)
        padded[:, begin:end, :, : group.length].copy_(rows.permute(2, 0, 3, 1, 4))
        begin = end
    return padded.flatten(1, 2)


def bucket_totals(weights: "torch.Tensor", bucket: Bucket, heads: int) -> "torch.Tensor":
    """Sum of each row's weights over the tokens of its own sequence, shape (sequences × heads, length, 1)."""
    import torch

    if len(bucket.groups) == 1:
        return weights[..., : bucket.groups[0].length].sum(-1, keepdim=True)
    totals = weights.new_empty(*weights.shape[:2], 1)
    begin = 0
    for group in bucket.groups:
        end = begin + group.sequences * heads
        torch.sum(weights[begin:end, :, : group.length], -1, keepdim=True, out=totals[begin:end])
        begin = end
    return totals


def parts(group: Group, heads: int) -> list[Group]:
    """The group in parts whose scores fit into a processor's cache."""
    at_once = max(1, SCORES_AT_ONCE // (heads * group.length**2))
    return [
        Group(group.start + first * group.length, min(at_once, group.sequences - first), group.length)
        for first in range(0, group.sequences, at_once)
    ]


def split_heads(packed: "torch.Tensor", group: Group) -> "torch.Tensor":
    """Rows of a group, (rows, …, heads, width), as (…, count × heads, length, width)."""
    count, length = group.sequences, group.length
    rows = packed[group.start : group.start + count * length]
    *inner, heads, width = rows.shape[1:]
    order = (*range(2, 2 + len(inner)), 0, 2 + len(inner), 1, 3 + len(inner))
    return rows.view(count, length, *inner, heads, width).permute(order).reshape(*inner, count * heads, length, width)


def join_heads(values: "torch.Tensor", group: Group, target: "torch.Tensor") -> None:
    """The inverse of `split_heads` for one tensor (count × heads, length, width), into its rows of `target`."""
    count, length = group.sequences, group.length
    rows = target[group.start : group.start + count * length]
    _, heads, width = rows.shape
    # `rows` may be every third row of a larger tensor: such a view keeps its strides.
    rows.view(count, length, heads, width).copy_(values.view(count, heads, length, width).transpose(1, 2))


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
            groups = [part for group in layout.groups for part in parts(group, heads)]
            kept: list[torch.Tensor] = []
            masks: list[torch.Tensor] = []
            for group in groups:
                queries, keys, values = split_heads(qkv, group)
                scores = torch.bmm(queries, keys.transpose(1, 2))
                if scale != 1:
                    scores.mul_(scale)
                if bias is not None:
                    length = group.length
                    scores.view(group.sequences, heads, length, length).add_(bias[:, :length, :length])
                weights = torch.softmax(scores, dim=-1)
                used = weights
                if dropout:
                    mask = torch.empty_like(weights).bernoulli_(1 - dropout).div_(1 - dropout)
                    used = weights * mask
                    masks.append(mask)
                join_heads(torch.bmm(used, values), group, out)
                if graph:
                    kept.append(weights)
            if graph:
                ctx.groups, ctx.scale, ctx.masked = groups, scale, bool(dropout)
                ctx.save_for_backward(qkv, bias, *kept, *masks)
            return out

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> Any:
            qkv, bias, *rest = ctx.saved_tensors
            heads = qkv.shape[2]
            gradient = gradient.contiguous()
            into = torch.empty_like(qkv)
            of_bias = torch.zeros_like(bias) if bias is not None and ctx.needs_input_grad[1] else None
            for number, group in enumerate(ctx.groups):
                weights = rest[number]
                mask = rest[len(ctx.groups) + number] if ctx.masked else None
                queries, keys, values = split_heads(qkv, group)
                outer = split_heads(gradient, group)
                used = weights if mask is None else weights * mask
                join_heads(torch.bmm(used.transpose(1, 2), outer), group, into[:, 2])
                inner = torch.bmm(outer, values.transpose(1, 2))
                if mask is not None:
                    inner.mul_(mask)
                inner = torch._softmax_backward_data(inner, weights, -1, weights.dtype)
                if of_bias is not None:
                    length = group.length
                    summed = inner.view(group.sequences, heads, length, length).sum(0).to(of_bias.dtype)
                    of_bias[:, :length, :length] += summed if len(of_bias) == heads else summed.sum(0, keepdim=True)
                if ctx.scale != 1:
                    inner.mul_(ctx.scale)
                join_heads(torch.bmm(inner, keys), group, into[:, 0])
                join_heads(torch.bmm(inner.transpose(1, 2), queries), group, into[:, 1])
            return into, of_bias, None, None, None, None

    return GroupedAttention
