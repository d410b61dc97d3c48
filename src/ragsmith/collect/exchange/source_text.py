"""The text of a file that a stranger sent: packed or not, of bounded size, UTF-8, with all its faults told at once."""

import gzip
import itertools
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

# Unpacked. SQuAD's whole training set has 30 MB.
MAX_BYTES = 200_000_000
SHOWN_FAULTS = 20
# JSON can name characters that no UTF-8 file can hold.
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
SPLITS = {
    "train": "train",
    "training": "train",
    "dev": "dev",
    "valid": "dev",
    "val": "dev",
    "validation": "dev",
    "test": "test",
}


def read_text(path: Path, max_bytes: int = MAX_BYTES) -> str:
    """A file's text, without byte-order mark; a file packed by gzip is unpacked, whatever its name.

    Args:
        path: the file.
        max_bytes: most that it may hold when unpacked; no more than that is ever unpacked.
    Raises:
        ValueError: it is larger, damaged, or not UTF-8.
    """
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        try:
            with gzip.GzipFile(fileobj=file) if packed else file as content:
                raw = content.read(max_bytes + 1)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path}: not a whole gzip file ({error}). Get it again.") from error
    if len(raw) > max_bytes:
        raise ValueError(
            f"{path}: holds more than {max_bytes:,} bytes. Split it, or raise data_collection.records.max_bytes."
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start}). Save it as UTF-8.") from error


def numbered_lines(text: str) -> list[tuple[int, str]]:
    """Number and content of each line that is not blank.

    Not `splitlines`: a text may hold U+2028 or a form feed. A carriage return before the line feed belongs to neither.
    """
    lines = ((number, line.removesuffix("\r")) for number, line in enumerate(text.split("\n"), start=1))
    return [(number, line) for number, line in lines if line.strip()]


def stream_lines(path: Path, max_bytes: int = MAX_BYTES) -> Iterator[tuple[int, str]]:
    """As `numbered_lines` of `read_text`, but one line at a time: the memory is that of the longest line.

    Args:
        path: the file; may be packed by gzip.
        max_bytes: most that it may hold when unpacked; no more than that is ever unpacked.
    Raises:
        ValueError: it is larger, damaged, or not UTF-8; as far as the lines have come.
    """
    left = max_bytes
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        try:
            with gzip.GzipFile(fileobj=file) if packed else file as content:
                for number in itertools.count(1):
                    raw = content.readline(left + 1)
                    if not raw:
                        return
                    left -= len(raw)
                    if left < 0:
                        raise ValueError(f"{path}: holds more than {max_bytes:,} bytes. Split it, or raise the limit.")
                    line = raw.removesuffix(b"\n").decode("utf-8-sig" if number == 1 else "utf-8").removesuffix("\r")
                    if line.strip():
                        yield number, line
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path}: not a whole gzip file ({error}). Get it again.") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}:{number}: not UTF-8 text. Save it as UTF-8.") from error


class Faults:
    """The faults of one file, gathered so that one message has them all.

    Args:
        path: the file, for the message.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: list[str] = []

    def add(self, where: str | int, reason: str) -> None:
        """Note a fault; `where` is a line's number or a place within the JSON."""
        self.found.append(f"{self.path.name}:{where}: {reason}")

    @property
    def message(self) -> str:
        """The first 20 faults, and how many there are."""
        count = "1 fault" if len(self.found) == 1 else f"{len(self.found)} faults"
        shown = self.found[:SHOWN_FAULTS]
        if len(self.found) > SHOWN_FAULTS:
            shown.append(f"… and {len(self.found) - SHOWN_FAULTS} more")
        return f"{self.path} has {count}:\n  " + "\n  ".join(shown)

    def refuse(self) -> None:
        """Raise ValueError with the message, if there are any faults."""
        if self.found:
            raise ValueError(self.message)


def is_text(value: object) -> bool:
    """Whether a value is a string that says something and can be stored."""
    return isinstance(value, str) and bool(value.strip()) and not UNSTORABLE.search(value)


def shown(value: object, most: int = 60) -> str:
    """A value as it is quoted in a message: never longer than a line."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}…"


def stem(path: Path) -> str:
    """The file's name without `.gz` and the ending before it.

    >>> stem(Path("data/WikiQA-train.tsv.gz")), stem(Path("dev-v1.1.json"))
    ('WikiQA-train', 'dev-v1.1')
    """
    name = path.name[: -len(".gz")] if path.name.lower().endswith(".gz") else path.name
    return Path(name).stem


def split_of_name(path: Path) -> str | None:
    """The split that a file's name speaks of; None when it speaks of none, or of several.

    >>> split_of_name(Path("WikiQA-train.tsv")), split_of_name(Path("latest.json"))
    ('train', None)
    """
    words = re.findall(r"[a-z]+", stem(path).lower())
    found = {SPLITS[word] for word in words if word in SPLITS}
    return found.pop() if len(found) == 1 else None
