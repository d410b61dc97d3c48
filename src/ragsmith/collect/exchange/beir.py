"""BEIR: a folder with a corpus, queries and judgements, as retrieval benchmarks are exchanged."""

import hashlib
import heapq
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ragsmith.collect.exchange.source_text import UNSTORABLE, Faults, shown, stream_lines
from ragsmith.collect.files import LEAVES_FOLDER
from ragsmith.store import publish_directory

# Unpacked, and of one file. MS MARCO, the largest of the usual ones, has 3 GB of 8.8 million passages.
MAX_BYTES = 4_000_000_000
MAX_RECORDS = 10_000_000
QRELS_HEADER = ["query-id", "corpus-id", "score"]
_SPLIT = re.compile(r"\w[\w.-]{0,99}")
_GRADE = re.compile(r"[+-]?[0-9]{1,9}")
# An id stands in a field of a table of judgements.
_NO_ID = re.compile("[\t\r\n]")


@dataclass(frozen=True)
class BeirSet:
    """One split of a BEIR folder, in our words.

    Attributes:
        passages: passage_id, title (may be empty), text; in the order of the corpus.
        queries: query_id, text: those of this split that have a right passage; in the order of the file.
        qrels: query_id, passage_id, grade (0 is wrong, above is right), of these queries and passages alone.
        left_out: counts of queries_without_judgements (none in this split, or none above 0),
            judgements_of_unknown_queries, judgements_of_unknown_passages and passages_not_read (above the limit).
    """

    passages: pd.DataFrame
    queries: pd.DataFrame
    qrels: pd.DataFrame
    left_out: Mapping[str, int] = field(default_factory=dict)


def read_beir(
    folder: Path, split: str = "test", limit: int | None = None, seed: int = 0, max_bytes: int = MAX_BYTES
) -> BeirSet:
    """Read one split of a BEIR folder (Thakur et al., NeurIPS 2021).

    The corpus is read line by line: memory is that of the passages which are kept, and of the ids.

    Args:
        folder: corpus.jsonl (`_id`, `title`, `text`), queries.jsonl (`_id`, `text`), each of them plain or packed as
            .gz, and qrels/<split>.tsv with the header `query-id corpus-id score`. Other keys are not read. A score
            below 0 counts as 0, as trec_eval has it.
        split: name of the judgements.
        limit: most passages to keep; None keeps all. Those that are judged for the split are kept whatever the limit,
            and of the others a sample.
        seed: of the sample, which does not depend on the order of the corpus.
        max_bytes: most that one file may hold when unpacked.
    Raises:
        NotADirectoryError: `folder` is not a folder.
        ValueError: a file is missing, leads out of the folder, cannot be read or has faults (all of a file by line,
            the first 20 shown); or no query has a right passage.
    """
    if not folder.is_dir():
        raise NotADirectoryError(
            f"{folder} is not a folder. A BEIR folder has corpus.jsonl, queries.jsonl and qrels/."
        )
    if not _SPLIT.fullmatch(split):
        raise ValueError(f"{shown(split)} is no name of a split, such as 'test'.")
    grades = _read_qrels(_file(folder, f"qrels/{split}.tsv"), max_bytes)
    texts = {record["_id"]: record["text"] for record in _records(_file(folder, "queries.jsonl"), max_bytes)}
    judged = {passage for by_passage in grades.values() for passage in by_passage}
    corpus = _file(folder, "corpus.jsonl")
    kept, count = _passages(_records(corpus, max_bytes), judged, limit, seed)
    if count == 0:
        raise ValueError(f"{corpus} has no passage.")
    passages = pd.DataFrame(kept, columns=["passage_id", "title", "text"])
    known = set(passages["passage_id"])
    rows = [
        (query_id, passage_id, grade)
        for query_id, by_passage in grades.items()
        for passage_id, grade in by_passage.items()
        if query_id in texts and passage_id in known
    ]
    answerable = {query_id for query_id, _, grade in rows if grade > 0}
    if not answerable:
        raise ValueError(f"{folder}: no query of the split {split!r} has a passage of score above 0 in the corpus.")
    pairs = sum(len(by_passage) for by_passage in grades.values())
    of_known_queries = sum(len(by_passage) for query_id, by_passage in grades.items() if query_id in texts)
    queries = [(query_id, text) for query_id, text in texts.items() if query_id in answerable]
    return BeirSet(
        passages,
        pd.DataFrame(queries, columns=["query_id", "text"]),
        pd.DataFrame([row for row in rows if row[0] in answerable], columns=["query_id", "passage_id", "grade"]),
        {
            "queries_without_judgements": len(texts) - len(queries),
            "judgements_of_unknown_queries": pairs - of_known_queries,
            "judgements_of_unknown_passages": of_known_queries - len(rows),
            "passages_not_read": count - len(kept),
        },
    )


def write_beir(folder: Path, passages: pd.DataFrame, queries: pd.DataFrame, qrels: Mapping[str, pd.DataFrame]) -> None:
    """Write passages, queries and judgements so that other tools can read them as a BEIR folder.

    Args:
        folder: where; published, so that it is whole or not there.
        passages: passage_id, title, text.
        queries: query_id, text.
        qrels: for each split query_id, passage_id, grade.
    Raises:
        FileExistsError: something that was not written by this project is there.
        ValueError: there is nothing to write, an id is empty, double or has a TAB or a line end in it, a split's name
            is none, or a judgement names a query or passage that is not written.
    """
    _check(folder, passages, queries, qrels)

    def write(place: Path) -> None:
        rows = zip(passages["passage_id"], passages["title"], passages["text"], strict=True)
        corpus = ({"_id": identity, "title": title, "text": text} for identity, title, text in rows)
        asked = (
            {"_id": identity, "text": text}
            for identity, text in zip(queries["query_id"], queries["text"], strict=True)
        )
        (place / "qrels").mkdir()
        for name, records in (("corpus.jsonl", corpus), ("queries.jsonl", asked)):
            with (place / name).open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        for split, table in qrels.items():
            with (place / f"qrels/{split}.tsv").open("w", encoding="utf-8", newline="\n") as file:
                file.write("\t".join(QRELS_HEADER) + "\n")
                lines = zip(table["query_id"], table["passage_id"], table["grade"], strict=True)
                file.writelines(f"{query_id}\t{passage_id}\t{int(grade)}\n" for query_id, passage_id, grade in lines)

    publish_directory(folder, write)


def _file(folder: Path, name: str) -> Path:
    """The file of this name, or the same packed by gzip."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            if not path.resolve().is_relative_to(folder.resolve()):
                raise ValueError(f"{path}: {LEAVES_FOLDER}. Put the file itself there.")
            return path
    there = sorted(path.name.removesuffix(".gz").removesuffix(".tsv") for path in (folder / "qrels").glob("*.tsv*"))
    hint = f" Splits: {', '.join(there[:20]) or 'none'}." if name.startswith("qrels/") else ""
    raise ValueError(f"{folder / name} is not there, nor is {name}.gz: no BEIR folder.{hint}")


def _records(path: Path, max_bytes: int) -> Iterator[dict[str, str]]:
    """`_id`, `title` and `text` of each line; all faults are told when the last line was read."""
    faults = Faults(path)
    first: dict[str, int] = {}
    for count, (number, line) in enumerate(stream_lines(path, max_bytes), start=1):
        if count > MAX_RECORDS:
            raise ValueError(f"{path}: holds more than {MAX_RECORDS:,} records. Take a part of it.")
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            faults.add(number, f"not JSON ({str(error)[:120]})")
            continue
        reason = _record_fault(record)
        if not reason and (where := first.setdefault(record["_id"], number)) != number:
            reason = f"_id {shown(record['_id'])} is that of line {where} too"
        if reason:
            faults.add(number, reason)
        elif not faults.found:
            yield {"_id": record["_id"], "title": record.get("title") or "", "text": record["text"]}
    faults.refuse()


def _record_fault(record: Any) -> str:
    if not isinstance(record, dict):
        return f"a record is {shown(record)}, not an object"
    identity = record.get("_id")
    if not _is_id(identity):
        return f"_id is {shown(identity)}, not a text without TAB and line end"
    # Benchmarks have passages of a title alone, and some of nothing at all: they are what is searched.
    for key, value in (("text", record.get("text")), ("title", record.get("title") or "")):
        if not isinstance(value, str) or UNSTORABLE.search(value):
            return f"{key} is {shown(value)}, not a text that can be stored"
    return ""


def _is_id(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip()) and not UNSTORABLE.search(value) and not _NO_ID.search(value)


def _read_qrels(path: Path, max_bytes: int) -> dict[str, dict[str, int]]:
    """Grades by query and passage."""
    faults, lines = Faults(path), stream_lines(path, max_bytes)
    number, header = next(lines, (1, ""))
    if header.split("\t") != QRELS_HEADER:
        faults.add(number, f"needs the header {' '.join(QRELS_HEADER)}, with TAB between the names")
        faults.refuse()
    grades: dict[str, dict[str, int]] = {}
    for number, line in lines:
        fields = line.split("\t")
        if len(fields) != len(QRELS_HEADER):
            faults.add(number, f"has {len(fields)} fields, not {len(QRELS_HEADER)}")
        elif not _is_id(fields[0]) or not _is_id(fields[1]):
            faults.add(number, "nothing stands in query-id or corpus-id, or it is binary")
        elif not _GRADE.fullmatch(fields[2]):
            faults.add(number, f"score is {shown(fields[2])}, not a whole number")
        else:
            grade, by_passage = max(0, int(fields[2])), grades.setdefault(fields[0], {})
            if by_passage.setdefault(fields[1], grade) != grade:
                faults.add(number, f"another line judges {shown(fields[1])} otherwise for {shown(fields[0])}")
    faults.refuse()
    return grades


def _passages(
    records: Iterator[dict[str, str]], judged: set[str], limit: int | None, seed: int
) -> tuple[list[tuple[str, str, str]], int]:
    """Id, title and text of the passages to keep, in the order of the file, and how many there are in all."""
    kept: list[tuple[int, tuple[str, str, str]]] = []
    # The largest hash goes first when a smaller one comes: of all, those of the smallest hashes stay.
    sample: list[tuple[int, int, tuple[str, str, str]]] = []
    count = 0
    for place, record in enumerate(records):
        count += 1
        row = (record["_id"], record["title"], record["text"])
        if limit is None or record["_id"] in judged:
            kept.append((place, row))
        else:
            digest = hashlib.blake2b(f"{seed}\n{record['_id']}".encode(), digest_size=8).digest()
            heapq.heappush(sample, (-int.from_bytes(digest, "big"), place, row))
        while sample and limit is not None and len(sample) + len(kept) > limit:
            heapq.heappop(sample)
    kept += [(place, row) for _, place, row in sample]
    return [row for _, row in sorted(kept)], count


def _check(folder: Path, passages: pd.DataFrame, queries: pd.DataFrame, qrels: Mapping[str, pd.DataFrame]) -> None:
    faults = []
    for name, ids in (("passage", passages["passage_id"]), ("query", queries["query_id"])):
        if ids.empty:
            faults.append(f"there is no {name}")
        if bad := [identity for identity in ids if not _is_id(identity)]:
            faults.append(f"{len(bad)} {name} ids are empty or have a TAB or a line end in them, such as {bad[0]!r}")
        if (doubles := ids[ids.duplicated()]).size:
            faults.append(f"{name} id {doubles.iloc[0]!r} is there twice")
    for split, table in qrels.items():
        if not _SPLIT.fullmatch(split):
            faults.append(f"{split!r} is no name of a split")
        for column, ids in (("query_id", queries["query_id"]), ("passage_id", passages["passage_id"])):
            if (unknown := table.loc[~table[column].isin(ids), column]).size:
                faults.append(
                    f"{split}: {unknown.size} judgements are of a {column} that is not written: {unknown.iloc[0]!r}"
                )
    if faults:
        raise ValueError(f"{folder} was not written:\n- " + "\n- ".join(faults))
