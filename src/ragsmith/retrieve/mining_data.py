"""What is mined, how, and what mining leaves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from ragsmith.retrieve.index import DenseIndex
from ragsmith.retrieve.margins import Margins
from ragsmith.retrieve.miners import MinerName

MINED_COLUMNS = ["query_id", "positive_ids", "negative_ids", "negative_scores", "teacher_scores"]


@dataclass(frozen=True)
class MiningSettings:
    """Which passages become the negatives of a query.

    Attributes:
        miner: ranks the candidates.
        skip_top, top_k: the candidates are the ranks from skip_top (0 is the best) up to, and without, top_k.
        num_negatives: kept per query.
        select: `top` keeps the hardest, `random` draws among all that may be kept.
        margins: what may be kept, by score.
        exclude_same_document: candidates in a positive's document are dropped: often they answer too. Where a document
            is a reference of many objects, its other sections are the very ones to be told apart: set it to false.
        exclude_same_section: other pieces of a positive's own section are dropped: they say the same thing. Passages
            of a document that have one title are a section: all of a text without headings, of an article of records.
        near_duplicate: candidates of at least this Jaccard similarity to a positive are dropped; None drops equal
            texts only.
        rerank_k: how many candidates per query a teacher scores; the others are dropped.
        too_few: what becomes of a query with fewer negatives than wanted: `keep_fewer` keeps it, `backfill_random`
            adds random passages that pass the same tests, `drop` leaves it out.
        audit_queries: queries of which all candidates are shown.
        seed: of chance.
    """

    miner: MinerName = "dense"
    skip_top: int = 0
    top_k: int = 100
    num_negatives: int = 4
    select: Literal["top", "random"] = "top"
    margins: Margins = field(default_factory=Margins)
    exclude_same_document: bool = True
    exclude_same_section: bool = True
    near_duplicate: float | None = 0.9
    rerank_k: int = 20
    too_few: Literal["keep_fewer", "backfill_random", "drop"] = "keep_fewer"
    audit_queries: int = 50
    seed: int = 0

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> "MiningSettings":
        """What `dataclasses.asdict` made of settings, after it went through JSON; other keys are not read."""
        margins = {**values["margins"], "relaxed": tuple(values["margins"]["relaxed"])}
        own = {name: values[name] for name in cls.__dataclass_fields__}
        return cls(**{**own, "margins": Margins(**margins)})


@dataclass(frozen=True)
class MiningData:
    """What is mined.

    Attributes:
        queries: query_id, text.
        vectors: of the queries, float32 unit vectors, shape (queries, dimension), of the model that made `index`.
        positives: passage ids per query id; every query has at least one.
        index: holds every passage of `passages`.
        passages: passage_id, document_id, title, text.
        pool: ids of the passages that may become negatives; None for all. Training must not touch dev or test
            documents.
        given: query_id, passage_id, score (NaN without): negatives that somebody has judged; they go before the mined
            ones, whatever they score, and a teacher scores them too. None for none.
        positive_scores: the same columns, of right passages: by the teacher that scored `given`, and of queries that
            are to learn from him. A teacher that mining is handed goes before. None for none.
    """

    queries: pd.DataFrame
    vectors: np.ndarray
    positives: dict[str, list[str]]
    index: DenseIndex
    passages: pd.DataFrame
    pool: set[str] | None = None
    given: pd.DataFrame | None = None
    positive_scores: pd.DataFrame | None = None


@dataclass(frozen=True)
class Mined:
    """What mining found.

    Attributes:
        table: query_id, positive_ids, negative_ids, negative_scores (cosines; of given negatives their own scores),
            teacher_scores (of the positives, then of the negatives; empty without a teacher; from `positive_scores`,
            NaN for mined negatives, which that teacher has not seen); one row per query that was not left out.
        report: counts, reasons, histogram; plain JSON.
        samples: the candidates of some queries; see `Audit.table`.
    """

    table: pd.DataFrame
    report: dict[str, Any]
    samples: pd.DataFrame
