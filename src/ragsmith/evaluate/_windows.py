"""Texts cut to what a model reads at once."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def offsets_of(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[tuple[int, int]]:
    """The characters of each token of a text."""
    tokens: Any = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return [(int(start), int(end)) for start, end in tokens["offset_mapping"]]


def shortened(tokenizer: "PreTrainedTokenizerBase", text: str, most: int) -> str:
    """The beginning of a text, at most so many tokens of it."""
    if len(text.encode("utf-8", "replace")) <= most:  # no tokenizer makes more than one token of a byte
        return text
    offsets = offsets_of(tokenizer, text)
    return text if len(offsets) <= most else text[: offsets[most - 1][1]]


def windows(tokenizer: "PreTrainedTokenizerBase", text: str, room: int) -> list[str]:
    """A text in pieces of at most `room` tokens, each of which shares a quarter with the next.

    A sentence of up to a quarter of the room thus stands whole in at least one.
    """
    if len(text.encode("utf-8", "replace")) <= room:
        return [text]
    offsets = offsets_of(tokenizer, text)
    if len(offsets) <= room:
        return [text]
    overlap = room // 4
    starts = range(0, len(offsets) - overlap, room - overlap)
    return [text[offsets[start][0] : offsets[min(start + room, len(offsets)) - 1][1]] for start in starts]
