"""Find passages that hold an accepted answer, whether or not anyone judged them right."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from ragsmith.evaluate._checks import require_columns, some
from ragsmith.evaluate._ranking import number_run
from ragsmith.retrieve.has_answer import holds, joined_tokens
from ragsmith.retrieve.index import RUN_COLUMNS


def answer_recall(
    run: pd.DataFrame, passages: pd.DataFrame, answers: pd.DataFrame, ks: Sequence[int] = (1, 5, 10, 20, 100)
) -> pd.DataFrame:
    """Whether one of a query's first k passages contains an accepted answer, as DPR's top-k accuracy counts it.

    It needs no judgements, and overrates where an answer is short: "4" stands in many passages that do not answer.

    Args:
        run, passages, answers: as in `first_answer_ranks`.
        ks: depths, each at least 1.
    Returns:
        a row per query, indexed by query_id as they first appear in `answers`; columns answer_recall@<k> (0 or 1).
    Raises:
        ValueError: as in `first_answer_ranks`, or a depth below 1.
    Source:
        Karpukhin et al., EMNLP 2020, section 5.1.
    """
    if shallow := [k for k in ks if k < 1]:
        raise ValueError(f"Answer recall is counted among the first k passages, k at least 1; got {some(shallow)}.")
    first = first_answer_ranks(run, passages, answers, max(ks, default=1)).set_index("query_id")["rank"]
    rank = first.to_numpy(dtype=np.float64, na_value=np.inf)
    return pd.DataFrame({f"answer_recall@{k}": (rank <= k).astype(np.float64) for k in ks}, index=first.index)


def first_answer_ranks(
    run: pd.DataFrame, passages: pd.DataFrame, answers: pd.DataFrame, depth: int | None = None
) -> pd.DataFrame:
    """Find at which rank each query meets the first passage that contains one of its answers (`has_answer`).

    Each passage is tokenised once, however many queries found it.

    Args:
        run: query_id, passage_id, score, rank, as in `score_matrix`.
        passages: passage_id, text; the title does not count.
        answers: query_id, answers (list of str). Several rows for a query add up their answers.
        depth: how many passages of each query to look at; all without it.
    Returns:
        query_id, rank (Int64; missing where no passage contains an answer); queries as they first appear in `answers`.
    Raises:
        ValueError: a run with faults, a query without an answer that has a token, a query of the run that the answers
            lack, or a passage of the run that is missing in `passages` or stands there twice. All are told at once.
    """
    require_columns(run, "run", RUN_COLUMNS)
    require_columns(passages, "passages", ["passage_id", "text"])
    wanted = _wanted(answers)
    ranking, faults = number_run(run)
    known = pd.Index(passages["passage_id"])
    faults += _faults(wanted, ranking.query_ids, ranking.passage_ids, known)
    if faults:
        raise ValueError("Cannot look for answers in this run:\n- " + "\n- ".join(faults))
    texts = passages["text"].iloc[known.get_indexer(ranking.passage_ids)].tolist()
    order = np.lexsort((ranking.rank, ranking.query))
    ends = np.cumsum(np.bincount(ranking.query)).tolist()
    found = ranking.passage[order].tolist()

    @cache
    def tokens(passage: int) -> str:
        return joined_tokens(texts[passage])

    first: dict[Any, int] = {}
    for query_id, start, end in zip(ranking.query_ids, [0, *ends], ends, strict=False):
        read = found[start : end if depth is None else min(end, start + depth)]
        sought = wanted[query_id]
        for rank, passage in enumerate(read, start=1):
            if holds(tokens(passage), sought):
                first[query_id] = rank
                break
    ranks = pd.array([first.get(query_id, pd.NA) for query_id in wanted], dtype="Int64")
    return pd.DataFrame({"query_id": list(wanted), "rank": ranks})


def _wanted(answers: pd.DataFrame) -> dict[Any, list[str]]:
    """Answers of each query as joined tokens, those without a token left out."""
    require_columns(answers, "answers", ["query_id", "answers"])
    if answers.empty:
        raise ValueError("The answers table is empty, so no answer can be looked for. Check the split it is from.")
    wanted: dict[Any, list[str]] = {}
    for query_id, texts in zip(answers["query_id"], answers["answers"], strict=True):
        found = (joined_tokens(text) for text in (texts if texts is not None else []))
        wanted.setdefault(query_id, []).extend(tokens for tokens in found if tokens.strip())
    return wanted


def _faults(
    wanted: Mapping[Any, Sequence[str]],
    query_ids: "pd.Index[Any]",
    passage_ids: "pd.Index[Any]",
    known: "pd.Index[Any]",
) -> list[str]:
    faults = []
    if bare := [query_id for query_id, answers in wanted.items() if not answers]:
        faults.append(f"no answer that has a token for query {some(bare)}; drop these queries from answers.")
    if unknown := [query_id for query_id in query_ids if query_id not in wanted]:
        faults.append(f"run has queries that the answers lack: {some(unknown)}; check that both are of one split.")
    if not known.is_unique:
        faults.append(f"passages repeat passage_id {some(known[known.duplicated()].unique())}; keep each once.")
    if missing := passage_ids[~passage_ids.isin(known)].tolist():
        faults.append(f"run names passages that the passages table lacks: {some(missing)}; make the run anew.")
    return faults
