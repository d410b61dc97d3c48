"""Small checks and error texts that the modules of this package share."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd


def some(values: Iterable[object], limit: int = 3) -> str:
    """Quote the first `limit` values and count the rest, so that an error text stays short."""
    found = list(values)
    rest = f" and {len(found) - limit} more" if len(found) > limit else ""
    return ", ".join(repr(value) for value in found[:limit]) + rest


def require_columns(table: pd.DataFrame, name: str, columns: Sequence[str]) -> None:
    """Check that a table has the columns it is documented to have.

    Raises:
        ValueError: a column is missing; names the table, what is missing and what is there.
    """
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ValueError(f"Table {name} lacks column {some(missing)}; it has {some(table.columns, limit=20)}.")


def repeated(table: pd.DataFrame, keys: Sequence[str]) -> list[tuple[object, ...]]:
    """Key tuples that stand in more than one row, each once, in order of appearance."""
    doubles = table.loc[table.duplicated(list(keys)), list(keys)].drop_duplicates()
    return [tuple(row) for row in doubles.itertuples(index=False)]


def listed(cell: object) -> list[Any]:
    """What a cell holds as a list: Parquet gives lists back as arrays, and a missing one as None or NaN."""
    return list(cell) if isinstance(cell, list | tuple | np.ndarray) else []


def json_safe(part: dict[str, Any]) -> dict[str, Any]:
    """A part of metrics.json as JSON gives it back: lists for tuples, and nothing shared with the caller's.

    Raises:
        ValueError: JSON cannot hold it.
    """
    try:
        copied: dict[str, Any] = json.loads(json.dumps(part, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"metrics.json cannot hold this: {error}. Pass str, int, float, list and dict.") from error
    return copied
