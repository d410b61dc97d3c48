"""Exact duplicates: the same text kept once."""

import hashlib
import re

import pandas as pd

WHITE_SPACE = re.compile(r"\s+")


def drop_exact_duplicates(passages: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Keep the first of the passages whose texts differ in nothing but white space and letter case.

    Args:
        passages: passage_id, text and any other columns, in order of preference.
    Returns:
        The passages kept, and the removed ones as passage_id, duplicate_of.
    """
    keys = [
        hashlib.sha256(WHITE_SPACE.sub(" ", text).strip().casefold().encode()).digest() for text in passages["text"]
    ]
    first: dict[bytes, str] = {}
    kept, removed = [], []
    for passage_id, key in zip(passages["passage_id"], keys, strict=True):
        kept.append(key not in first)
        if key in first:
            removed.append({"passage_id": passage_id, "duplicate_of": first[key]})
        first.setdefault(key, passage_id)
    return passages[kept].reset_index(drop=True), pd.DataFrame(removed, columns=["passage_id", "duplicate_of"])
