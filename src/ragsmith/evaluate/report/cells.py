"""Values of a table's cells as the report packs them: nothing in them is certain but their place."""

from typing import Any

import numpy as np
import pandas as pd

from ragsmith.evaluate._checks import listed


def id_list(value: Any) -> list[str]:
    """Strings of a cell that holds a list."""
    return [str(item) for item in listed(value)]


def plain(value: Any) -> str:
    """A cell as text; nothing where it is missing."""
    # NaN is the one value that differs from itself; asking pandas for each cell takes a hundred times as long.
    return "" if value is None or value is pd.NA or value != value else str(value)  # noqa: PLR0124


def cells(shown: pd.DataFrame, name: str) -> list[Any]:
    """The cells of a column, or as many None where the table lacks it."""
    return shown[name].tolist() if name in shown else [None] * len(shown)


def number(value: Any) -> float | None:
    """A finite number, whole ones without a point; None for anything else."""
    if value is None or value is pd.NA or not np.isfinite(value):
        return None
    rounded = round(float(value), 4)
    return int(rounded) if rounded.is_integer() else rounded


def numbers(column: pd.Series) -> list[float | None]:
    """`number` of each cell."""
    return [number(value) for value in column.tolist()]
