"""Runs and qrels as TREC's tools exchange them, so that anyone can check our figures with a tool of their own."""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ragsmith.evaluate._checks import require_columns, some
from ragsmith.evaluate._ranking import number_run
from ragsmith.retrieve.index import RUN_COLUMNS

_RUN_LINE = ("query_id", "Q0", "passage_id", "rank", "score", "tag")
_QRELS_LINE = ("query_id", "0", "passage_id", "grade")
_MOST_FAULTS = 5


def write_trec(runs: pd.DataFrame, qrels: pd.DataFrame, folder: Path) -> Path:
    """Write qrels.txt and <system>.run for each system: columns parted by a space, UTF-8.

    The score in a run is the negated rank, and not the system's score: trec_eval orders by score, held as a 32-bit
    float, and breaks ties by passage_id, so equal or nearly equal scores would be judged in an order that nobody was
    served. With the negated rank every tool has our ranking, and its figures equal ours.

    Args:
        runs: system, query_id, passage_id, score, rank (1, 2, 3 … within each query of a system).
        qrels: query_id, passage_id, grade (int).
        folder: made if it is not there; must be empty, or an older run of a system that is gone would stay in it.
    Returns:
        the folder.
    Raises:
        ValueError: a table is empty or lacks a column, a run has faults, an id or the name of a system is empty or
            holds white space, which parts the columns, or a system's name cannot be a file's. Nothing is written then.
        FileExistsError: the folder holds something.
    """
    require_columns(runs, "runs", ["system", *RUN_COLUMNS])
    require_columns(qrels, "qrels", ["query_id", "passage_id", "grade"])
    systems = {str(system): run for system, run in runs.groupby("system", sort=False)}
    if faults := [*_name_faults(systems), *_id_faults(runs, qrels), *_run_faults(systems)]:
        raise ValueError("Cannot write these runs and qrels for TREC's tools:\n- " + "\n- ".join(faults))
    folder.mkdir(parents=True, exist_ok=True)
    if there := sorted(path.name for path in folder.iterdir()):
        raise FileExistsError(f"{folder} holds {some(there)} already; name a folder that is empty or not there.")
    rows = zip(qrels["query_id"], qrels["passage_id"], qrels["grade"].astype(int), strict=True)
    _write(folder / "qrels.txt", (f"{query} 0 {passage} {grade}\n" for query, passage, grade in rows))
    for system, run in systems.items():
        _write(folder / f"{system}.run", _run_lines(run, system))
    return folder


def read_run(path: Path) -> pd.DataFrame:
    """Read a run in TREC's format, of ours or of any other system, in the order in which trec_eval judges it.

    That order is by score as a 32-bit float, highest first, and of equal scores the higher passage_id first. The
    file's own ranks are passed over, as trec_eval does.

    Returns:
        system (the tag), query_id, passage_id, score, rank (1, 2, 3 … within each query); queries as they first
        appear in the file, each best first.
    Raises:
        ValueError: a line without six columns, with a score that is no number, or with a pair that stood before; the
            file holds no line, more than one tag, or is not UTF-8. Names file and lines.
    """
    by_query: dict[str, list[tuple[float, str, float]]] = {}
    lines_of: dict[tuple[str, str], int] = {}
    tags: dict[str, int] = {}
    faults = []
    for number, columns in _lines(path, _RUN_LINE):
        if isinstance(columns, str):
            faults.append(columns)
            continue
        query_id, _, passage_id, _, text, tag = columns
        score = _number(text)
        if score is None:
            faults.append(f"line {number}: the score {text!r} is no finite number.")
            continue
        if (line := lines_of.setdefault((query_id, passage_id), number)) != number:
            faults.append(f"line {number}: query {query_id!r} has passage {passage_id!r} in line {line} already.")
        if tags.setdefault(tag, number) == number and len(tags) > 1:
            faults.append(f"line {number}: the tag {tag!r} differs from {next(iter(tags))!r}; one file holds one run.")
        by_query.setdefault(query_id, []).append((float(np.float32(score)), passage_id, score))
    _raise(path, faults, empty=not by_query)
    rows = [
        (query_id, passage_id, score, rank)
        for query_id, found in by_query.items()
        for rank, (_, passage_id, score) in enumerate(sorted(found, reverse=True), start=1)
    ]
    table = pd.DataFrame(rows, columns=RUN_COLUMNS)
    table.insert(0, "system", next(iter(tags)))
    return table


def read_qrels(path: Path) -> pd.DataFrame:
    """Read qrels in TREC's format.

    Returns:
        query_id, passage_id, grade (int; below 0 where the file has it so, as some TREC tracks mark spam); in the
        order of the file.
    Raises:
        ValueError: a line without four columns, with a grade that is no whole number, or with a pair that stood
            before; the file holds no line or is not UTF-8. Names file and lines.
    """
    grades: dict[tuple[str, str], int] = {}
    lines_of: dict[tuple[str, str], int] = {}
    faults = []
    for number, columns in _lines(path, _QRELS_LINE):
        if isinstance(columns, str):
            faults.append(columns)
            continue
        query_id, _, passage_id, text = columns
        if not text.removeprefix("-").isdecimal():
            faults.append(f"line {number}: the grade {text!r} is no whole number.")
            continue
        if (line := lines_of.setdefault((query_id, passage_id), number)) != number:
            faults.append(f"line {number}: query {query_id!r} has passage {passage_id!r} in line {line} already.")
        grades[query_id, passage_id] = int(text)
    _raise(path, faults, empty=not grades)
    rows = [(*pair, grade) for pair, grade in grades.items()]
    return pd.DataFrame(rows, columns=["query_id", "passage_id", "grade"])


def _name_faults(systems: Iterable[str]) -> list[str]:
    bad = [name for name in systems if not _plain(name) or name.startswith(".") or set(name) & set("/\\\0")]
    advice = "use letters, digits, - and _."
    return [f"a file cannot bear the name of system {some(bad)}; {advice}"] if bad else []


def _id_faults(runs: pd.DataFrame, qrels: pd.DataFrame) -> list[str]:
    faults = []
    for column in ("query_id", "passage_id"):
        ids = pd.concat([runs[column], qrels[column]]).unique()
        if bad := [name for name in ids if not (isinstance(name, str) and _plain(name))]:
            faults.append(f"{column} that is empty or holds white space: {some(bad)}; replace it, such as by _.")
    if count := int((pd.to_numeric(qrels["grade"], errors="coerce") % 1 != 0).sum()):  # NaN too is not equal to 0
        faults.append(f"qrels hold {count} grades that are no whole numbers; the format knows no others.")
    return faults


def _run_faults(systems: dict[str, pd.DataFrame]) -> list[str]:
    if not systems:
        return ["runs are empty: no system retrieved anything; look at what made them."]
    return [f"{system}: {fault}" for system, run in systems.items() for fault in number_run(run)[1]]


def _plain(name: str) -> bool:
    return name.split() == [name]


def _run_lines(run: pd.DataFrame, system: str) -> Iterator[str]:
    order = np.lexsort((run["rank"].to_numpy(), pd.factorize(run["query_id"])[0]))
    ordered = run.iloc[order]
    for query, passage, rank in zip(
        ordered["query_id"], ordered["passage_id"], ordered["rank"].astype(int), strict=True
    ):
        yield f"{query} Q0 {passage} {rank} {-rank} {system}\n"


def _write(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(lines)


def _lines(path: Path, names: Sequence[str]) -> Iterator[tuple[int, list[str] | str]]:
    """Number and columns of each line that is not blank; in place of the columns, what is wrong with the line."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                columns = line.split()
                if columns and len(columns) != len(names):
                    yield (
                        number,
                        f"line {number}: {len(columns)} columns in place of {len(names)} ({' '.join(names)}).",
                    )
                elif columns:
                    yield number, columns
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}); convert it first.") from error


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _raise(path: Path, faults: Sequence[str], *, empty: bool) -> None:
    if faults:
        rest = f"\n- and {len(faults) - _MOST_FAULTS} more" if len(faults) > _MOST_FAULTS else ""
        raise ValueError(f"Cannot read {path}:\n- " + "\n- ".join(faults[:_MOST_FAULTS]) + rest)
    if empty:
        raise ValueError(f"Cannot read {path}: it holds no line.")
