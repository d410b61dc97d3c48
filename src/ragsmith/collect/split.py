"""Train, dev and test, divided by document: no document is in two of them."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd


def split_documents(
    document_ids: Sequence[str],
    gold_documents: Iterable[Sequence[str]],
    dev: float,
    test: float,
    seed: int,
    given: Mapping[str, str] | None = None,
    all_train: bool = False,
) -> pd.DataFrame:
    """Divide documents into train, dev and test.

    With gold questions, the documents that answer them are dev and test (in the ratio dev : test, counted in
    questions) and all others train: no gold question is judged on a document that was trained on. Documents that
    answer one question together stay together. Without gold questions, the documents themselves are divided, unless
    some have their split already: then the others train.

    Args:
        document_ids: all documents.
        gold_documents: per gold question, the documents that answer it.
        dev: share of dev, above 0 and below 1.
        test: share of test; dev + test below 1.
        seed: another seed, another division; the same seed and ids, the same division on any machine.
        given: documents whose split is settled, none of them about a gold question that is to be divided.
        all_train: there are questions to judge by of which no document is known: those left over are not divided.
    Returns:
        document_id, split; in the order of `document_ids`.
    Raises:
        ValueError: no document is left for training, or there is too little for each split to get some.
    """
    groups = connected(gold_documents)
    settled = dict(given or {})
    if len(groups) == 1 and not settled:
        raise ValueError(
            "All gold questions hang together by the documents that answer them: they cannot be divided into dev and "
            "test. Add a question about another document."
        )
    if not groups and not settled and not all_train and len(document_ids) < 3:
        raise ValueError(
            f"{len(document_ids)} documents cannot be divided into train, dev and test. "
            "Add documents, or gold questions about some of them."
        )
    if groups or settled or all_train:
        split_of = assign(groups, {"dev": dev, "test": test}, seed) | settled
    else:
        singles = [([document_id], 1) for document_id in document_ids]
        split_of = assign(singles, {"train": 1 - dev - test, "dev": dev, "test": test}, seed)
    splits = [split_of.get(document_id, "train") for document_id in document_ids]
    if "train" not in splits:
        raise ValueError(
            f"No document of {len(document_ids)} is left for training: the gold questions touch all of them. "
            "Add documents, or keep questions for fewer of them."
        )
    return pd.DataFrame({"document_id": list(document_ids), "split": splits})


def connected(gold_documents: Iterable[Sequence[str]]) -> list[tuple[list[str], int]]:
    """Groups of documents linked by shared questions, each with its number of questions."""
    leader: dict[str, str] = {}

    def find(document_id: str) -> str:
        leader.setdefault(document_id, document_id)
        while leader[document_id] != document_id:
            leader[document_id] = leader[leader[document_id]]
            document_id = leader[document_id]
        return document_id

    firsts = []
    for documents in gold_documents:
        for document_id in documents:
            leader[find(document_id)] = find(documents[0])
        firsts.append(documents[0])
    members: dict[str, list[str]] = {}
    for document_id in leader:
        members.setdefault(find(document_id), []).append(document_id)
    counts: dict[str, int] = {}
    for document_id in firsts:
        counts[find(document_id)] = counts.get(find(document_id), 0) + 1
    return [(sorted(found), counts[root]) for root, found in members.items()]


def assign(groups: list[tuple[list[str], int]], shares: dict[str, float], seed: int) -> dict[str, str]:
    """The split of each document: largest groups first, each to the split that is furthest below its share.

    The last groups go to the splits that have none yet, so that none stays empty.
    """

    def order(group: tuple[list[str], int]) -> tuple[int, bytes]:
        return -group[1], hashlib.sha256(f"{seed}\n{group[0][0]}".encode()).digest()

    total = sum(count for _, count in groups)
    weight = sum(shares.values())
    filled = dict.fromkeys(shares, 0)
    split_of: dict[str, str] = {}
    for left, (documents, count) in zip(range(len(groups), 0, -1), sorted(groups, key=order), strict=True):
        empty = [name for name in shares if not filled[name]]
        choice = empty if left <= len(empty) else list(shares)
        split = max(choice, key=lambda name: shares[name] / weight * total - filled[name])
        filled[split] += count
        split_of.update(dict.fromkeys(documents, split))
    return split_of
