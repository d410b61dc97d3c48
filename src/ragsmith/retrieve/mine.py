"""Hard negatives: passages that look right for a query and are not its answer."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ragsmith.compute.device import Machine
from ragsmith.compute.progress import progress
from ragsmith.retrieve.exclusions import ABSENT, CODE, Block, Exclusions
from ragsmith.retrieve.given import with_given_negatives, with_given_scores
from ragsmith.retrieve.keys import random_numbers, text_keys
from ragsmith.retrieve.miners import Miner, random_rows
from ragsmith.retrieve.mining_audit import Audit
from ragsmith.retrieve.mining_data import MINED_COLUMNS, Mined, MiningData, MiningSettings
from ragsmith.retrieve.passage_text import passage_inputs
from ragsmith.retrieve.teacher import Teacher
from ragsmith.retrieve.top_k import pair_scores

logger = logging.getLogger(__name__)

QUERIES_AT_ONCE, CANDIDATES_AT_ONCE = 1024, 1 << 18
# Drawn for a query that lacks negatives, for each one that it wants: most passages are wrong, so few are dropped.
DRAWN_PER_NEGATIVE = 8


def mine_hard_negatives(
    data: MiningData, settings: MiningSettings, machine: Machine, teacher: Teacher | None = None
) -> Mined:
    """The hardest passages for each query that are not, and hardly can be, answers to it.

    Queries for which nothing is far enough below the positive are the hardest: unless `too_few` says otherwise they
    keep fewer negatives, or none, and train on those of their batch.

    Args:
        data, settings: see there.
        machine: where vectors are compared.
        teacher: judges candidates in the place of the cosine.
    Raises:
        ValueError: there is no query, or none keeps a negative, or none as many as `too_few: drop` wants; a teacher
            that reads fewer candidates than are wanted; a query without positives; a positive that the index does not
            hold, or a passage of it that is not in the table.
    """
    return Mining(data, settings, machine, teacher).run()


@dataclass
class Negatives:
    """Negatives of one block of queries: the query's number, row, cosine and teacher's score (NaN without) of each."""

    query: np.ndarray
    row: np.ndarray
    cosine: np.ndarray
    score: np.ndarray


class Mining:
    """One run of `mine_hard_negatives`, which see for the arguments."""

    def __init__(
        self, data: MiningData, settings: MiningSettings, machine: Machine, teacher: Teacher | None = None
    ) -> None:
        if data.queries.empty:
            raise ValueError(
                "There is no training query to mine negatives for. Add documents, or questions to train on: "
                "paths.examples and paths.records in conf/<env>/globals.yml say where they lie."
            )
        if teacher is not None and settings.rerank_k < settings.num_negatives:
            raise ValueError(
                f"rerank_k is {settings.rerank_k} and num_negatives {settings.num_negatives}: a query keeps no more "
                "negatives than the reranker reads. Raise rerank_k (parameters_negative_mining.yml)."
            )
        self.settings, self.teacher = settings, teacher
        self.query_ids, self.texts = data.queries["query_id"].tolist(), data.queries["text"].tolist()
        self.query_vectors, self.vectors = data.vectors, data.index.vectors
        passages = in_order(data.passages, data.index.passage_ids)
        self.passage_ids = np.asarray(data.index.passage_ids, dtype=object)
        self.inputs = passage_inputs(passages) if teacher or settings.miner in ("bm25", "hybrid") else []
        self.positives, self.bounds = positive_rows(self.query_ids, data.positives, data.index.passage_ids)
        in_pool = range(len(passages)) if data.pool is None else np.flatnonzero(passages["passage_id"].isin(data.pool))
        self.pool = np.asarray(in_pool, dtype=np.int64)
        self.keys = text_keys(self.query_ids)
        self.exclusions = Exclusions(
            passages,
            self.texts,
            settings.exclude_same_document,
            settings.near_duplicate,
            settings.exclude_same_section,
        )
        self.passages, self.given, self.given_scores = passages, data.given, data.positive_scores
        self.miner = Miner(settings.miner, self.vectors, self.pool, self.inputs, settings.seed, machine)
        self.audit = Audit(
            np.asarray(self.query_ids, dtype=object),
            self.passage_ids,
            self.keys,
            settings.audit_queries,
            settings.seed,
        )
        self.starved, self.backfilled = 0, 0
        self.relaxed = dict.fromkeys(settings.margins.relaxed, 0)
        self.negatives: list[Negatives] = []
        self.positive_scores: list[np.ndarray] = []

    def run(self) -> Mined:
        """Mine block by block."""
        size = min(QUERIES_AT_ONCE, max(256, CANDIDATES_AT_ONCE // self.settings.top_k))
        with progress("mining, queries", total=len(self.query_ids)) as advance:
            for begin in range(0, len(self.query_ids), size):
                queries = np.arange(begin, min(begin + size, len(self.query_ids)))
                self.mine(queries)
                advance(len(queries))
        table, given, scored = self.table(), 0, 0
        if self.given is not None:
            table, given = with_given_negatives(table, self.given, self.passages, self.taught(self.teacher))
            # Never beside those of another teacher: theirs may be of another scale.
            if self.given_scores is not None and self.teacher is None:
                table, scored = with_given_scores(table, self.given, self.given_scores)
        counts = table["negative_ids"].map(len)
        if not counts.any():
            raise ValueError(f"None of {len(self.query_ids)} queries keeps a negative{self.nothing_kept()}")
        if self.settings.too_few == "drop":
            table = table[counts >= self.settings.num_negatives].reset_index(drop=True)
            if table.empty:
                raise ValueError(
                    f"None of {len(self.query_ids)} queries keeps as many negatives as num_negatives "
                    f"({self.settings.num_negatives}) wants, and too_few: drop leaves out all others. They keep "
                    f"{counts.max()} at most; candidates were dropped for these reasons: {self.reasons()}. Lower "
                    "num_negatives, raise top_k, or set too_few to keep_fewer (parameters_negative_mining.yml)."
                )
        return Mined(table, self.report(table, given, scored), self.audit.table())

    def nothing_kept(self) -> str:
        """Why no query keeps a negative, and what to do: the end of the message."""
        if not len(self.pool):
            return (
                f": none of the {len(self.passage_ids)} passages may become one. Negatives come from training "
                "documents and, where the folder paths.candidate_pool (conf/<env>/globals.yml) has a list, from those "
                "that stand in it: add documents, or change the list."
            )
        if not (reasons := self.reasons()):
            return (
                f": the miner {self.settings.miner!r} finds no passage for them among {len(self.pool)}. Set miner to "
                "dense (parameters_negative_mining.yml)."
            )
        wide = [name for name in ("exclude_same_document", "exclude_same_section") if getattr(self.settings, name)]
        also = f", or set {wide[0]} to false" if wide else ""
        return (
            f", for these reasons: {reasons}. Raise top_k, lower relative_margin or skip_top{also} "
            "(parameters_negative_mining.yml)."
        )

    def taught(self, teacher: Teacher | None) -> Callable[[list[str], list[str]], np.ndarray] | None:
        """What gives the teacher's scores of pairs of query and passage ids; None without a teacher."""
        if teacher is None:
            return None

        def score(query_ids: list[str], passage_ids: list[str]) -> np.ndarray:
            query_of = {query_id: number for number, query_id in enumerate(self.query_ids)}
            row_of = {passage_id: row for row, passage_id in enumerate(self.passage_ids)}
            return teacher.score(
                self.texts,
                self.inputs,
                np.asarray([query_of[query_id] for query_id in query_ids]),
                np.asarray([row_of[passage_id] for passage_id in passage_ids]),
                "cross-encoder, given negatives",
            )

        return score

    def mine(self, queries: np.ndarray) -> None:
        """Rank, judge and choose for a block of queries."""
        settings = self.settings
        rows, cosines = self.miner.rank(
            self.query_vectors[queries], [self.texts[query] for query in queries], self.keys[queries], settings.top_k
        )
        block = self.block(queries, rows, cosines)
        block.drop(np.broadcast_to(np.arange(rows.shape[1]) < settings.skip_top, rows.shape), "skipped_rank")
        scores, positive_scores, starved = self.judge(block)
        self.starved += int(starved.sum())
        wanted = np.full(len(queries), settings.num_negatives)
        self.choose(block, scores, wanted, settings.select)
        self.audit.add(block, scores, positive_scores)
        self.positive_scores.append(positive_scores)
        found = [self.kept(block, scores)]
        if settings.too_few == "backfill_random":
            wanted -= block.open.sum(axis=1)
            short = np.flatnonzero(wanted > 0)
            if len(short):
                found.append(self.backfill(queries[short], rows[short], wanted[short]))
                self.backfilled += len(found[-1].query)
        self.negatives.append(joined(found))

    def backfill(self, queries: np.ndarray, seen: np.ndarray, wanted: np.ndarray) -> Negatives:
        """Random passages that pass the tests of all others, for queries that lack as many as `wanted`."""
        # Beside what was ranked: on a small pool most of what is drawn has been.
        width = seen.shape[1] + DRAWN_PER_NEGATIVE * self.settings.num_negatives
        rows = random_rows(self.pool, self.keys[queries], width, self.settings.seed + 1)
        # What the miner has ranked was judged already.
        known = np.asarray([np.isin(row, before) for row, before in zip(rows, seen, strict=True)])
        rows = np.where(known, -1, rows)
        block = self.block(queries, rows, pair_scores(self.query_vectors[queries], self.vectors, rows))
        scores, _, _ = self.judge(block, relaxing=False)
        self.choose(block, scores, wanted, "random")
        return self.kept(block, scores)

    def block(self, queries: np.ndarray, rows: np.ndarray, cosines: np.ndarray) -> Block:
        """Candidates beside the positives of their queries; none is dropped yet."""
        counts = self.bounds[queries + 1] - self.bounds[queries]
        positive_of = np.repeat(np.arange(len(queries)), counts)
        places = np.repeat(self.bounds[queries] - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
        positives = self.positives[places]
        own = pair_scores(self.query_vectors[queries[positive_of]], self.vectors, positives[:, None])[:, 0]
        reasons = np.where(rows < 0, ABSENT, CODE["kept"])
        return Block(queries, rows, cosines, reasons, positive_of, positives, own)

    def judge(self, block: Block, relaxing: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Drop what cannot be a negative; the candidates' scores, the positives' and which queries starved."""
        self.exclusions.apply(block)
        scores, positive_scores = self.scores(block)
        # The weakest positive: with several, each of them is an answer.
        begins = np.searchsorted(block.positive_of, np.arange(len(block.queries)))
        reference = np.minimum.reduceat(positive_scores, begins)
        wanted = self.settings.num_negatives if relaxing else 0
        logits = self.teacher is not None and self.teacher.gives_logits
        margins, starved = self.settings.margins.apply(block, scores, reference, wanted, logits)
        for margin in self.relaxed if relaxing else ():
            if margin != self.settings.margins.relative:
                self.relaxed[margin] += int((starved & (margins == margin)).sum())
        return scores, positive_scores, starved

    def scores(self, block: Block) -> tuple[np.ndarray, np.ndarray]:
        """What candidates and positives are judged by: cosines, or the teacher's scores of those that he reads."""
        if self.teacher is None:
            return block.cosines, block.positive_cosines
        block.drop(np.cumsum(block.open, axis=1) > self.settings.rerank_k, "not_rescored")
        query, column = block.open.nonzero()
        found = self.teacher.score(
            self.texts,
            self.inputs,
            block.queries[np.concatenate([block.positive_of, query])],
            np.concatenate([block.positives, block.rows[query, column]]),
            "cross-encoder, pairs",
        )
        scores = np.full(block.rows.shape, np.nan, dtype=np.float32)
        scores[query, column] = found[len(block.positives) :]
        return scores, found[: len(block.positives)]

    def choose(self, block: Block, scores: np.ndarray, wanted: np.ndarray, select: str) -> None:
        """Drop all but as many as wanted of each query's open candidates."""
        if select == "random":
            numbers = random_numbers(
                self.settings.seed, self.keys[block.queries, None], block.rows.astype(np.uint64) + np.uint64(1)
            )
            # Half the range is for those that are dropped already: they stand behind all others.
            priority = numbers >> np.uint64(1)
        elif self.teacher is not None:
            priority = -np.nan_to_num(scores, nan=-np.inf)
        else:
            block.drop(np.cumsum(block.open, axis=1) > wanted[:, None], "not_needed")
            return
        last = np.iinfo(np.uint64).max if select == "random" else np.inf
        order = np.argsort(np.where(block.open, priority, last), axis=1, kind="stable")
        place = np.empty_like(order)
        np.put_along_axis(place, order, np.arange(order.shape[1])[None, :], axis=1)
        block.drop(place >= wanted[:, None], "not_needed")

    def kept(self, block: Block, scores: np.ndarray) -> Negatives:
        """What is left of a block, the hardest first: by the teacher, or in the order of the ranking."""
        query, column = block.open.nonzero()
        if self.teacher is not None:
            order = np.lexsort((-scores[query, column], query))
            query, column = query[order], column[order]
        judged = scores[query, column] if self.teacher is not None else np.full(len(query), np.nan)
        return Negatives(block.queries[query], block.rows[query, column], block.cosines[query, column], judged)

    def table(self) -> pd.DataFrame:
        """`Mined.table` with all queries, and without given negatives."""
        found, own = joined(self.negatives), np.concatenate(self.positive_scores or [np.empty(0)])
        counts = np.bincount(found.query, minlength=len(self.query_ids))
        ends = np.concatenate([[0], np.cumsum(counts)])
        ids, cosines = self.passage_ids[found.row].tolist(), found.cosine.astype(float).tolist()
        positives, judged, own_judged = self.passage_ids[self.positives].tolist(), found.score.tolist(), own.tolist()
        spans = list(zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True))
        mine = list(zip(self.bounds[:-1].tolist(), self.bounds[1:].tolist(), strict=True))
        teacher_scores: list[list[float]] = [[] for _ in spans]
        if self.teacher is not None:
            teacher_scores = [
                own_judged[first:last] + judged[begin:end]
                for (first, last), (begin, end) in zip(mine, spans, strict=True)
            ]
        return pd.DataFrame(
            {
                "query_id": self.query_ids,
                "positive_ids": [positives[first:last] for first, last in mine],
                "negative_ids": [ids[begin:end] for begin, end in spans],
                "negative_scores": [cosines[begin:end] for begin, end in spans],
                "teacher_scores": teacher_scores,
            },
            columns=MINED_COLUMNS,
        )

    def reasons(self) -> dict[str, int]:
        """Why candidates were dropped, without the reasons that never were one."""
        return {reason: count for reason, count in self.audit.report()["dropped"].items() if count}

    def report(self, table: pd.DataFrame, given: int, scored: int) -> dict[str, Any]:
        """`Mined.report` of a finished table with so many given negatives, and queries with given scores."""
        counts = table["negative_ids"].map(len)
        scores = np.concatenate([part.cosine for part in self.negatives])
        return {
            "miner": self.settings.miner,
            "judged_by": "cosine" if self.teacher is None else "teacher",
            "pool": {"passages": len(self.pool), "of": len(self.passage_ids)},
            "queries": len(self.query_ids),
            "mined": int((counts > 0).sum()),
            "without_negative": int((counts == 0).sum()),
            "with_fewer": int((counts < self.settings.num_negatives).sum()),
            "left_out": len(self.query_ids) - len(table),
            "starved": self.starved,
            "relaxed_to_margin": {str(margin): count for margin, count in self.relaxed.items()},
            "backfilled": self.backfilled,
            "given": given,
            "given_scores": scored,
            "negatives": int(counts.sum()),
            "mean_negative_score": float(scores.mean()) if len(scores) else None,
            **self.audit.report(),
        }


def in_order(passages: pd.DataFrame, passage_ids: list[str]) -> pd.DataFrame:
    """The passages in the order of these ids; where it is theirs already, no copy is made.

    Raises:
        ValueError: a passage is not in the table.
    """
    if passages["passage_id"].tolist() == passage_ids:
        return passages
    known = set(passages["passage_id"])
    if unknown := [passage_id for passage_id in passage_ids if passage_id not in known]:
        raise ValueError(
            f"The index holds {len(unknown)} passages that are not in the table of passages, such as {unknown[0]}: it "
            "was built from other passages. Build it again: kedro run."
        )
    return passages.set_index("passage_id").loc[passage_ids].reset_index()


def positive_rows(
    query_ids: list[str], positives: dict[str, list[str]], passage_ids: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of all queries' positives, one query after another, and where each query's begin and the last one's end.

    Raises:
        ValueError: a query has none, or one that the index does not hold.
    """
    row_of = {passage_id: row for row, passage_id in enumerate(passage_ids)}
    lists = [list(dict.fromkeys(positives.get(query_id, ()))) for query_id in query_ids]
    if bare := [query_id for query_id, right in zip(query_ids, lists, strict=True) if not right]:
        raise ValueError(f"{len(bare)} queries have no positive passage, such as {bare[0]}: there is nothing to mine.")
    if lost := [passage_id for right in lists for passage_id in right if passage_id not in row_of]:
        raise ValueError(f"The index does not hold the positive passage {lost[0]}. Build it again: kedro run.")
    bounds = np.concatenate([[0], np.cumsum([len(right) for right in lists])]).astype(np.int64)
    rows = np.asarray([row_of[passage_id] for right in lists for passage_id in right], dtype=np.int64)
    return rows, bounds


def joined(parts: list[Negatives]) -> Negatives:
    """Several as one, by query; of one query in the order of the parts."""
    fields = [
        np.concatenate([getattr(part, name) for part in parts]) if parts else np.empty(0, dtype=np.int64)
        for name in ("query", "row", "cosine", "score")
    ]
    order = np.argsort(fields[0], kind="stable")
    return Negatives(*(values[order] for values in fields))
