"""Which passages may become negatives, as a person has listed them."""

import json
import logging
from pathlib import Path

import pandas as pd

from ragsmith.collect.exchange.source_text import stream_lines

LARGEST = 2**40  # bytes of a file: a pool is read line by line, and what is kept are ids

logger = logging.getLogger(__name__)


def read_candidate_pool(folder: Path, passages: pd.DataFrame) -> set[str] | None:
    """The ids of the passages that are listed in the files of a folder.

    Args:
        folder: may be absent. Of `*.txt`, each line is the id or the whole text of a passage; of `*.jsonl`, an object
            with `passage_id` or `text`. Empty lines do not count.
        passages: passage_id, text.
    Returns:
        None where there is no such file: then all passages are candidates.
    Raises:
        ValueError: a line that is no such object, or that names no passage, with its file and number; a file that is
            not UTF-8, or too large.
    """
    files = sorted([*folder.glob("*.txt"), *folder.glob("*.jsonl")]) if folder.is_dir() else []
    if not files:
        return None
    ids = dict.fromkeys(passages["passage_id"])
    of_text: dict[str, list[str]] = {}
    for passage_id, text in zip(passages["passage_id"], passages["text"], strict=True):
        of_text.setdefault(squeezed(text), []).append(passage_id)
    pool: set[str] = set()
    for file in files:
        for number, line in stream_lines(file, LARGEST):
            named = entry(line, file, number)
            found = [named] if named in ids else of_text.get(squeezed(named), [])
            if not found:
                raise ValueError(
                    f"{file}:{number} lists {named[:80]!r}, which is neither the id nor the text of a passage. "
                    "Negatives come from the collected passages: add the text to your documents, or remove the line."
                )
            pool.update(found)
    return pool


def training_pool(folder: Path, passages: pd.DataFrame, splits: pd.DataFrame) -> set[str]:
    """The ids of the passages that may become negatives: of training documents, and listed if there is a list.

    Args:
        folder: see `read_candidate_pool`, also for the errors.
        passages: passage_id, document_id, text.
        splits: document_id, split.
    """
    documents = set(splits.loc[splits["split"] == "train", "document_id"])
    pool = set(passages.loc[passages["document_id"].isin(documents), "passage_id"])
    listed = read_candidate_pool(folder, passages)
    if listed is None:
        return pool
    logger.info(
        "%d of the %d passages in the candidate pool are of training documents", len(pool & listed), len(listed)
    )
    return pool & listed


def entry(line: str, file: Path, number: int) -> str:
    """The id or text that a line holds."""
    if file.suffix == ".txt":
        return line.strip()
    try:
        value = json.loads(line)
        named = value.get("passage_id", value.get("text"))
    except (ValueError, AttributeError, RecursionError):
        named = None
    if not isinstance(named, str) or not named.strip():
        raise ValueError(f'{file}:{number} is no object with "passage_id" or "text": {line[:80]}')
    return named


def squeezed(text: str) -> str:
    """The text with each stretch of white space as one blank."""
    return " ".join(text.split())
