"""Hashes of values and of code: the same on every machine and in every process."""

import dataclasses
import datetime
import enum
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any

CODE_SUFFIXES = frozenset({".py"})


def hash_json(value: Any) -> str:
    """Sha256 of a value's canonical JSON: key order, and a model or its plain dictionary, make no difference.

    Args:
        value: JSON values, and pydantic models, dataclasses, paths, enumerations, dates and sets of them. Secrets
            (`SecretStr`) count as present only: a new key does not make an old result wrong.
    Raises:
        TypeError: a value of another type, named with the place where it stands.
    """
    text = json.dumps(_canonical(value, "value"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _canonical(value: Any, where: str) -> Any:
    if isinstance(value, enum.Enum):
        return _canonical(value.value, where)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value  # json writes a float as its repr, the shortest text that gives the same float back
    if hasattr(value, "model_dump"):
        return _canonical(value.model_dump(), where)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _canonical({item.name: getattr(value, item.name) for item in dataclasses.fields(value)}, where)
    if isinstance(value, PurePath):
        return value.as_posix()
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if hasattr(value, "get_secret_value"):
        return "secret"
    if isinstance(value, Mapping):
        return {str(key): _canonical(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(item, f"{where}[{place}]") for place, item in enumerate(value)]
    if isinstance(value, (set, frozenset)):
        return sorted((_canonical(item, where) for item in value), key=repr)
    raise TypeError(f"{where} is a {type(value).__name__}, which has no canonical JSON. Use plain values or a model.")


def hash_code(paths: Iterable[Path], suffixes: frozenset[str] = CODE_SUFFIXES) -> str:
    """Sha256 over source files: names below each root and contents, with line ends made equal.

    Args:
        paths: files, or folders that are searched to the bottom; where they lie on this machine does not count.
        suffixes: which files of a folder count.
    Raises:
        FileNotFoundError: a path does not exist.
    """
    total = hashlib.sha256()
    for root in sorted(paths, key=lambda path: path.name):
        if not root.exists():
            raise FileNotFoundError(f"No code at {root}.")
        files = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.suffix in suffixes)
        for path in files:
            relative = path.relative_to(root.parent)
            if path.is_file() and "__pycache__" not in relative.parts:
                # Git on Windows may check the same file out with other line ends.
                content = hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()
                total.update(f"{relative.as_posix()}\0{content}\n".encode())
    return total.hexdigest()
