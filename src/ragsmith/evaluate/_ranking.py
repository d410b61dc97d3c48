"""A run as whole numbers: a million rows are checked and joined in a second, which text ids take many for."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ragsmith.evaluate._checks import repeated, some

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Ranking:
    """Rows of a run, in any order.

    Attributes:
        query_ids, passage_ids: distinct ids, as they first appear.
        query, passage: position of each row's id in these.
        rank: of each row, 1 is best; all 0 where the run has faults.
    """

    query_ids: "pd.Index[Any]"
    passage_ids: "pd.Index[Any]"
    query: Numbers
    passage: Numbers
    rank: Numbers


def number_run(run: pd.DataFrame) -> tuple[Ranking, list[str]]:
    """Number a run's ids, and say what is wrong with it.

    Args:
        run: query_id, passage_id, score, rank.
    Returns:
        the ranking; one sentence for each fault: no rows, missing or repeated ids, NaN scores, ranks that are not
        1, 2, 3 … within each query.
    """
    query, query_ids = pd.factorize(run["query_id"])
    passage, passage_ids = pd.factorize(run["passage_id"])
    ranking = Ranking(
        query_ids, passage_ids, query.astype(np.int64), passage.astype(np.int64), np.zeros(len(run), np.int64)
    )
    if run.empty:
        return ranking, ["run is empty: nothing was retrieved for any query; look at the system that made it."]
    if missing := int(((query < 0) | (passage < 0)).sum()):
        return ranking, [f"run has {missing} rows without query_id or passage_id; drop them, or give them ids."]
    faults = []
    if pd.Series(ranking.query * len(passage_ids) + ranking.passage).duplicated().any():
        doubles = repeated(run, ["query_id", "passage_id"])
        faults.append(f"run repeats (query_id, passage_id) {some(doubles)}; a passage takes one rank for a query.")
    unscored = run["score"].isna().to_numpy()
    if count := int(unscored.sum()):
        queries = query_ids[np.unique(query[unscored])]
        faults.append(f"run holds {count} NaN scores, for query {some(queries)}; look at the system that made it.")
    rank, misnumbered = _ranks(run, ranking.query)
    if len(misnumbered):
        faults.append(
            f"run has ranks other than 1, 2, 3 … for query {some(query_ids[misnumbered])}; number its passages anew."
        )
    return (ranking if faults else Ranking(query_ids, passage_ids, ranking.query, ranking.passage, rank)), faults


def _ranks(run: pd.DataFrame, query: Numbers) -> tuple[Numbers, Numbers]:
    """Ranks as whole numbers, and the queries whose ranks are not each of 1, 2, 3 … once."""
    given = pd.to_numeric(run["rank"], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    counts = np.bincount(query)
    whole = (given >= 1) & (given <= counts[query]) & (given == np.floor(given))
    rank = np.where(whole, given, 0).astype(np.int64)
    # Whole, from 1 to the count, and every place taken: then each is taken once, and nothing needs to be sorted.
    taken = np.zeros(len(run), dtype=bool)
    taken[(np.cumsum(counts) - counts)[query[whole]] + rank[whole] - 1] = True
    return rank, np.unique(np.repeat(np.arange(len(counts)), counts)[~taken])
