"""What a model reads of a passage."""

import pandas as pd


def passage_inputs(passages: pd.DataFrame) -> list[str]:
    """The text of each passage, below its title where the text does not begin with it.

    The title tells a piece from the middle of a section what it is about; a first piece begins with its heading.

    Args:
        passages: title, text.
    """
    return [
        text if begins_with(text, title.rpartition(" > ")[2]) else f"{title}\n{text}"
        for title, text in zip(passages["title"], passages["text"], strict=True)
    ]


def begins_with(text: str, name: str) -> bool:
    """Whether the text begins with this name, and not with a longer word (`re` is not the beginning of `return`)."""
    following = text[len(name) : len(name) + 1]
    return text.startswith(name) and not following.isalnum() and following != "_"
