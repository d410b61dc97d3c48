"""What a model reads of a passage."""

import pandas as pd


def passage_inputs(passages: pd.DataFrame) -> list[str]:
    """The text of each passage, below its title where the text does not begin with it.

    The title tells a piece from the middle of a section what it is about; a first piece begins with its heading.

    Args:
        passages: title, text.
    """
    return [
        text if text.startswith(title.rpartition(" > ")[2]) else f"{title}\n{text}"
        for title, text in zip(passages["title"], passages["text"], strict=True)
    ]
