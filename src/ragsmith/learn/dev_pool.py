"""The passages that dev questions are searched in: while training few, for the gate as many as may be."""

import numpy as np
import pandas as pd

from ragsmith.learn.contrastive import DevSet
from ragsmith.retrieve.index import DenseIndex
from ragsmith.retrieve.passage_text import passage_inputs

NEIGHBOURS = 20


def dev_set(
    queries: pd.DataFrame,
    query_vectors: np.ndarray,
    qrels: pd.DataFrame,
    passages: pd.DataFrame,
    index: DenseIndex,
    size: int,
    seed: int,
) -> DevSet:
    """Dev questions with a pool: every right passage, the base model's nearest, and random ones up to `size`.

    Scores over a pool are higher than over the whole corpus; they serve to compare weights of one training with each
    other. With the base they serve less well: what is near to it is in the pool, and what a tuned model alone finds
    near is there by chance. For the gate the pool is so large that it mostly holds all passages.

    Args:
        queries: query_id, text: the dev questions.
        query_vectors: float32, shape (queries, dimension), of the model that made `index`.
        qrels: query_id, passage_id, grade.
        passages: passage_id, title, text.
        index: of all passages.
        size: of the pool; more when right and near passages alone are more.
        seed: of the random ones.
    Raises:
        ValueError: there is no dev question with a right passage.
    """
    right = qrels[(qrels["grade"] > 0) & qrels["query_id"].isin(queries["query_id"])]
    relevant = right.groupby("query_id")["passage_id"].agg(set)
    judged = queries["query_id"].isin(relevant.index).to_numpy()
    if not judged.any():
        raise ValueError(
            "There is no dev question with a right passage: training could not be steered. Add dev questions, "
            "or set data_collection.records.distant_supervision to true if they have answers alone."
        )
    _, rows = index.search(query_vectors[judged], NEIGHBOURS)
    pool = {passage_id for passage_ids in relevant for passage_id in passage_ids}
    pool |= {index.passage_ids[row] for row in rows.ravel()}
    others = [passage_id for passage_id in passages["passage_id"] if passage_id not in pool]
    extra = max(0, min(size - len(pool), len(others)))
    drawn: np.ndarray | list[int] = (
        np.random.default_rng(seed).choice(len(others), size=extra, replace=False) if extra else []
    )
    pool |= {others[int(place)] for place in drawn}
    chosen = passages[passages["passage_id"].isin(pool)]
    kept = queries[judged]
    return DevSet(
        texts=kept["text"].tolist(),
        relevant=[relevant[query_id] for query_id in kept["query_id"]],
        passage_ids=chosen["passage_id"].tolist(),
        passages=passage_inputs(chosen),
    )
