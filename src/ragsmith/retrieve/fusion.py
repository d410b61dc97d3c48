"""Several rankings made one."""

from collections.abc import Sequence

import pandas as pd

from ragsmith.retrieve.index import RUN_COLUMNS


def reciprocal_rank_fusion(runs: Sequence[pd.DataFrame], k: int = 60, depth: int = 100) -> pd.DataFrame:
    """Fuse several runs into one by summed reciprocal ranks (Cormack et al., SIGIR 2009).

    Args:
        runs: per system, columns query_id, passage_id, rank (1 is best); rows in any order.
        k: rank offset, at least 1; the larger it is, the less the first ranks dominate.
        depth: passages kept per query.
    Returns:
        query_id, passage_id, score (at most len(runs) / (k + 1)), rank; best first, ties by passage_id.
    Raises:
        ValueError: `runs` is empty.
    """
    if not runs:
        raise ValueError("No runs to fuse. Pass at least one, such as the dense run.")
    # Ranks and not scores: BM25 and cosine have no common scale.
    terms = pd.concat(runs).assign(score=lambda run: 1 / (k + run["rank"]))
    fused = terms.groupby(["query_id", "passage_id"], as_index=False)["score"].sum()
    fused = fused.sort_values(["query_id", "score", "passage_id"], ascending=[True, False, True], ignore_index=True)
    fused["rank"] = fused.groupby("query_id").cumcount() + 1
    return fused.loc[fused["rank"] <= depth, RUN_COLUMNS].reset_index(drop=True)
