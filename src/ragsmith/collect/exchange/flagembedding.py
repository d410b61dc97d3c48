"""FlagEmbedding's training format: `{"query", "pos", "neg"}`, with scores of a teacher if it has them."""

from pathlib import Path

from ragsmith.collect.exchange.jsonl import Dialect, read_jsonl, write_jsonl
from ragsmith.collect.exchange.record_set import RecordSet
from ragsmith.collect.exchange.source_text import MAX_BYTES

DIALECT = Dialect(positive="pos", negative="neg")


def read_flagembedding(path: Path, max_bytes: int = MAX_BYTES) -> RecordSet:
    """Read JSONL of `{"query": str, "pos": [str], "neg": [str]}`, as FlagEmbedding trains from.

    `pos_scores` and `neg_scores`, a teacher's, are one finite number per text. `prompt`, `type` and keys that nobody
    knows are used nowhere and kept for `write_flagembedding`. `neg` may be empty or missing, and one text may stand
    without its list.

    Args:
        path: the file; may be packed by gzip.
        max_bytes: most that it may hold when unpacked.
    Raises:
        ValueError: it cannot be read, or lines are no such records: all faults by line, the first 20 shown.
    """
    return read_jsonl(path, DIALECT, max_bytes)


def write_flagembedding(records: RecordSet, path: Path) -> None:
    """Write the questions that have a positive so that FlagEmbedding can train from them.

    Args:
        records: from any format; what was read from this format comes out as it was.
        path: where. Nothing that lies there and was not written by this project is replaced.
    Raises:
        FileExistsError: such a file is there.
        ValueError: no question has a positive.
    """
    write_jsonl(records, DIALECT, path)
