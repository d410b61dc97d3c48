"""Read a version of an evaluation's outputs, which may come from anywhere."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ragsmith.evaluate._checks import some
from ragsmith.evaluate.answers import COLUMNS as ANSWER_METRICS
from ragsmith.evaluate.history import METRICS, PER_QUERY, damaged_files
from ragsmith.store.metadata import DIRECTORY_METADATA

if TYPE_CHECKING:
    import pyarrow as pa

MOST_JSON_BYTES = 64 * 2**20
MOST_LEVELS = 50
MOST_TABLE_BYTES = 2**31  # unpacked; ten thousand questions with all columns have some 20 MB
MOST_QUERIES = 1_000_000
MOST_COLUMNS = 1_000
TEXTS = ("query_id", "query", "answer")
REQUIRED = (*TEXTS, "em", "f1")
RANK = "rank_"


@dataclass(frozen=True)
class SavedVersion:
    """What was kept of one evaluation, checked.

    Attributes:
        name: what it is called in tables.
        metrics: the content of metrics.json.
        per_query: query_id, query, answer (str), em, f1 and others of `ANSWER_METRICS` (0 to 1), <metric>@<k>_<system>
            (0 to 1, missing where no passage was judged), rank_<system> (Int64, missing where nothing right was
            found). Other columns are not read.
    """

    name: str
    metrics: dict[str, Any]
    per_query: pd.DataFrame


def read_version(folder: Path, name: str | None = None) -> SavedVersion:
    """The version in a folder, as `find_version` gives it.

    The files may be a stranger's: sizes are bounded, columns and types are checked, nothing in them is run.

    Args:
        folder: holds metrics.json and per_query.parquet.
        name: what to call it; None takes the folder's own name.
    Raises:
        ValueError: a file is missing, too large, altered since it was published, or not what it should be; the text
            names the file.
    """
    _check_sizes(folder)
    if damaged := damaged_files(folder):
        raise ValueError(
            f"{folder / damaged[0]} was altered or cut short since it was published. Take another version, or run the "
            "evaluation pipeline again."
        )
    return SavedVersion(name or folder.resolve().name, read_metrics(folder), _read_table(folder / PER_QUERY))


def read_metrics(folder: Path) -> dict[str, Any]:
    """The content of a version's metrics.json alone.

    Raises:
        ValueError: as `read_version`.
    """
    path = folder / METRICS
    _check_size(path, MOST_JSON_BYTES)
    try:
        metrics = json.loads(path.read_text("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON ({str(error)[:120]}). Take another version.") from error
    if not isinstance(metrics, dict) or not isinstance(metrics.get("run", {}), dict):
        raise ValueError(f"{path} is not the metrics.json of an evaluation: it needs an object with an object 'run'.")
    if _is_deeper(metrics, MOST_LEVELS):
        raise ValueError(f"{path} is nested more than {MOST_LEVELS} levels deep: no metrics.json of an evaluation.")
    return metrics


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether JSON is nested deeper than this; what walks through it afterwards may then call itself."""
    inner = [value]
    for _ in range(levels):
        nested = [item for item in inner if isinstance(item, dict | list)]
        inner = [child for item in nested for child in (item.values() if isinstance(item, dict) else item)]
    return any(isinstance(item, dict | list) for item in inner)


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _check_sizes(folder: Path) -> None:
    _check_size(folder / METRICS, MOST_JSON_BYTES)
    _check_size(folder / PER_QUERY, MOST_TABLE_BYTES)
    if (folder / DIRECTORY_METADATA).exists():
        _check_size(folder / DIRECTORY_METADATA, MOST_JSON_BYTES)


def _check_size(path: Path, most: int) -> None:
    if not path.is_file():
        raise ValueError(f"{path} is not there. A version has {METRICS} and {PER_QUERY}.")
    if (size := path.stat().st_size) > most:
        raise ValueError(f"{path} has {size:,} bytes; at most {most:,} are read.")


def _read_table(path: Path) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            columns = _wanted(file.schema_arrow, path)
            _check_footer(file.metadata, path)
        # Packed texts stay packed until they are looked at: a million rows may name one text of a megabyte.
        with pq.ParquetFile(path, read_dictionary=list(TEXTS)) as file:
            table = file.read(columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} is no whole Parquet file ({str(error)[:120]}). Take another version.") from error
    frame = pd.DataFrame({name: _values(table[name], name, path) for name in columns})
    if (doubles := frame["query_id"][frame["query_id"].duplicated()]).size:
        raise ValueError(f"{path} has more than one row for query {some(doubles.unique())}.")
    return frame


def _check_footer(metadata: Any, path: Path) -> None:
    unpacked = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    if metadata.num_rows > MOST_QUERIES or not 0 <= unpacked <= MOST_TABLE_BYTES:
        raise ValueError(
            f"{path} has {metadata.num_rows:,} rows of {unpacked:,} bytes unpacked; at most {MOST_QUERIES:,} rows and "
            f"{MOST_TABLE_BYTES:,} bytes are read."
        )


def _wanted(schema: "pa.Schema", path: Path) -> list[str]:
    """The columns to read, once all of them are known to be of the right type."""
    import pyarrow as pa

    names = list(schema.names)
    if len(names) > MOST_COLUMNS or len(set(names)) < len(names):
        raise ValueError(f"{path} has {len(names)} columns; at most {MOST_COLUMNS}, and none twice, are read.")
    if missing := [name for name in REQUIRED if name not in names]:
        raise ValueError(f"{path} lacks column {some(missing)}: it is not the per_query table of an evaluation.")

    def is_text(kind: "pa.DataType") -> bool:
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))

    def is_number(kind: "pa.DataType") -> bool:
        return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind))

    wanted = [name for name in names if name in TEXTS or is_score(name) or name.startswith(RANK)]
    for name in wanted:
        kind = schema.field(name).type
        if not (is_text(kind) if name in TEXTS else is_number(kind)):
            raise ValueError(f"{path}: column {name!r} is of type {kind}, not of {_type_name(name)}.")
    return wanted


def _type_name(name: str) -> str:
    return "texts" if name in TEXTS else "numbers"


def is_score(column: str) -> bool:
    """Whether a column of the per_query table holds scores from 0 to 1 of the answers, or of a system's ranking."""
    return column in ANSWER_METRICS or split_system(column) is not None


def split_system(column: str) -> tuple[str, str] | None:
    """Metric and system of a column such as `ndcg@10_tuned`; None for others.

    >>> split_system("ndcg@10_tuned"), split_system("em_oracle")
    (('ndcg@10', 'tuned'), None)
    """
    kind, at, rest = column.partition("@")
    depth, _, system = rest.partition("_")
    if not (kind.isascii() and kind.isalpha() and at and depth.isascii() and depth.isdigit() and system):
        return None
    return f"{kind}@{depth}", system


def _values(column: Any, name: str, path: Path) -> Any:
    if name in TEXTS:
        return _texts(column, name, path)
    numbers = pd.Series(column.to_pandas(), dtype="float64")
    if name.startswith(RANK):
        given = numbers.dropna()
        if not ((given >= 1) & (given == given.round()) & (given < 2**31)).all():
            raise ValueError(f"{path}: column {name!r} holds something that is no rank (1, 2, 3 …, or missing).")
        return numbers.astype("Int64")
    given = numbers.dropna() if split_system(name) else numbers  # a question that nobody judged has no such score
    if not given.between(0, 1).all():
        raise ValueError(f"{path}: column {name!r} holds something that is no score from 0 to 1.")
    return numbers


def _texts(column: Any, name: str, path: Path) -> pd.Series:
    """The texts of all rows; equal ones of a dictionary are one object, and stay so: pandas' own type would copy."""
    import pyarrow as pa

    texts: list[str | None] = []
    try:
        for chunk in column.chunks:
            if pa.types.is_dictionary(chunk.type):
                values = chunk.dictionary.to_pylist()
                texts += [None if place is None else values[place] for place in chunk.indices.to_pylist()]
            else:
                texts += chunk.to_pylist()
    except (UnicodeDecodeError, IndexError) as error:
        raise ValueError(f"{path}: column {name!r} is damaged ({str(error)[:80]}). Take another version.") from error
    if any(text is None for text in texts):
        raise ValueError(f"{path}: column {name!r} has rows without a text.")
    return pd.Series(texts, dtype=object)
