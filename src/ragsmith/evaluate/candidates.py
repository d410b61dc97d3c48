"""Score rankings of given candidates: whole lists that were judged, not what a search found."""

import pandas as pd

from ragsmith.evaluate._checks import repeated, require_columns, some
from ragsmith.evaluate.retrieval import score_run


def score_candidates(candidates: pd.DataFrame) -> pd.DataFrame:
    """MAP and MRR of each query over its own candidates, as TREC's answer selection is scored.

    Queries without a right or without a wrong candidate are left out: every order of them scores the same. Of equal
    scores the wrong candidate counts as first, so that a system which tells nothing apart gets nothing for it.

    Args:
        candidates: query_id, passage_id (both str), score, grade (0 is wrong, above is right).
    Returns:
        query_id, metric (`map`, `mrr`), value (0 to 1); queries in the order in which they first appear.
    Raises:
        ValueError: a pair is there twice, a score is NaN, or no query has both a right and a wrong candidate.
    """
    require_columns(candidates, "candidates", ["query_id", "passage_id", "score", "grade"])
    if doubles := repeated(candidates, ["query_id", "passage_id"]):
        raise ValueError(
            f"The candidates repeat (query_id, passage_id) {some(doubles)}; keep one score for each pair."
        )
    right = candidates["grade"] > 0
    by_query = right.groupby(candidates["query_id"])
    judged = candidates[by_query.transform("any") & ~by_query.transform("all")]
    if judged.empty:
        raise ValueError("No query has both a right and a wrong candidate, so there is nothing to rank.")
    run = judged.sort_values(["score", "grade", "passage_id"], ascending=[False, True, True], kind="stable")
    run = run.assign(rank=run.groupby("query_id").cumcount() + 1)
    depth = int(run["rank"].max())
    names = {f"map@{depth}": "map", f"mrr@{depth}": "mrr"}
    scored = score_run(run, judged[["query_id", "passage_id", "grade"]], list(names))
    return scored.assign(metric=scored["metric"].map(names))
