"""rag-end2end-retriever's questions: a file with one question a line, and one with their answers."""

from pathlib import Path

from ragsmith.collect.exchange.record_set import Answer, RecordQuestion, RecordSet
from ragsmith.collect.exchange.source_text import (
    MAX_BYTES,
    UNSTORABLE,
    Faults,
    read_text,
    split_of_name,
    stem,
)

SOURCE, TARGET = ".source", ".target"
PAIR = {SOURCE: TARGET, TARGET: SOURCE}


def pair_suffix(path: Path) -> str | None:
    """`.source` or `.target` when the file's name, without `.gz`, ends so.

    >>> pair_suffix(Path("train.source.gz")), pair_suffix(Path("train.tsv"))
    ('.source', None)
    """
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    return suffix if suffix in PAIR else None


def read_source_target(source: Path, target: Path, max_bytes: int = MAX_BYTES) -> RecordSet:
    """Read the questions of `.source` with the answers of `.target`, line by line.

    No passage is named: the questions are about the knowledge base that lies beside them.

    Args:
        source: one question a line; may be packed by gzip.
        target: as many lines, the answer to each.
        max_bytes: most that one file may hold when unpacked.
    Raises:
        ValueError: one of them cannot be read (`read_text`), or has lines that are empty, none at all, or another
            number of them than the other: the faults of both, the first 20 of each shown.
    """
    halves = [read_lines(path, max_bytes) for path in (source, target)]
    (asked, _), (answers, _) = halves
    messages = [message for _, message in halves if message]
    if asked and answers and len(asked) != len(answers):
        faults = Faults(source)
        counts = f"it has {len(asked)} lines and {target.name} {len(answers)}: each question needs one answer"
        faults.add(min(len(asked), len(answers)) + 1, counts)
        messages.append(faults.message)
    if messages:
        raise ValueError("\n".join(messages))
    origin, split = stem(source), split_of_name(source)
    questions = [
        RecordQuestion(
            question_id=f"{origin}:{number}",
            text=question,
            positive_ids=(),
            answers=(Answer(answer),),
            split=split,
            origin=origin,
        )
        for number, (question, answer) in enumerate(zip(asked, answers, strict=True), start=1)
    ]
    return RecordSet((), tuple(questions))


def read_lines(path: Path, max_bytes: int) -> tuple[list[str], str]:
    """The lines, without white space around them, and what is wrong with them; empty when nothing is."""
    faults = Faults(path)
    try:
        text = read_text(path, max_bytes)
    except ValueError as error:
        return [], str(error)
    lines = [line.strip() for line in text.removesuffix("\n").split("\n")] if text else []
    if not lines:
        faults.add(1, "no line is in it")
    for number, line in enumerate(lines, start=1):
        if not line:
            faults.add(number, "the line is empty")
        elif UNSTORABLE.search(line):
            faults.add(number, "binary: it holds a NUL")
    return lines, faults.message if faults.found else ""
