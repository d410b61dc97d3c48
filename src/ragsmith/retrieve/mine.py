"""Hard negatives: passages that look right for a query and are not its answer."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ragsmith.retrieve.index import DenseIndex

MINED_COLUMNS = ["query_id", "positive_ids", "negative_ids", "negative_scores", "teacher_scores"]


@dataclass(frozen=True)
class MiningSettings:
    """Which neighbours of a query become its negatives.

    Attributes:
        top_k: neighbours looked at.
        num_negatives: kept per query, the nearest first.
        relative_margin: a neighbour that scores above (1 - margin) times the positive may well be right: it is dropped
            (the 95 % rule of NV-Retriever, Moreira et al. 2024).
        relaxed_margins: tried in turn for queries that starve, that is, keep fewer than num_negatives.
        exclude_same_document: neighbours in a positive's document are dropped: often they answer too. Where a document
            is a reference of many objects, its other sections are the very ones to be told apart: set it to false.
            Other pieces of a positive's own section are dropped in any case.
    """

    top_k: int = 100
    num_negatives: int = 4
    relative_margin: float = 0.05
    relaxed_margins: tuple[float, ...] = (0.02, 0.0)
    exclude_same_document: bool = True


def mine_hard_negatives(
    query_ids: list[str],
    query_vectors: np.ndarray,
    positives: dict[str, list[str]],
    index: DenseIndex,
    passages: pd.DataFrame,
    allowed_documents: set[str],
    settings: MiningSettings,
) -> tuple[pd.DataFrame, dict[str, object]]:
    """The nearest passages of each query that are not, and hardly can be, answers to it.

    Args:
        query_ids: one per row of `query_vectors`.
        query_vectors: float32 unit vectors, shape (queries, dimension), of the model that made `index`.
        positives: passage ids per query id; every query has at least one.
        index: holds every passage of `passages`.
        passages: passage_id, document_id, title.
        allowed_documents: negatives come from these alone: training must not touch dev or test documents.
        settings: see `MiningSettings`.
    Returns:
        query_id, positive_ids, negative_ids, negative_scores (cosines), teacher_scores (empty: no teacher); one row
        per query. Those for which nothing is far enough below the positive are the hardest: they train on the
        negatives of their batch alone. And the audit: how many neighbours were dropped and why (with the negatives
        they add up to all that were looked at), how many queries starved, took a relaxed margin, have no negative.
    Raises:
        ValueError: no query keeps a negative.
    """
    document_of = dict(zip(passages["passage_id"], passages["document_id"], strict=True))
    section_of = dict(
        zip(passages["passage_id"], zip(passages["document_id"], passages["title"], strict=True), strict=True)
    )
    row_of = {passage_id: row for row, passage_id in enumerate(index.passage_ids)}
    dropped = {
        "positive": 0,
        "same_section": 0,
        "same_document": 0,
        "not_in_training_documents": 0,
        "above_margin": 0,
        "not_needed": 0,
    }
    relaxed = dict.fromkeys((str(margin) for margin in settings.relaxed_margins), 0)
    rows: list[dict[str, object]] = []
    starved = 0
    scores, neighbours = index.search(query_vectors, settings.top_k)
    for position, query_id in enumerate(query_ids):
        right = positives[query_id]
        documents = {document_of[passage_id] for passage_id in right}
        sections = {section_of[passage_id] for passage_id in right}
        # The weakest positive: with several, each of them is an answer.
        reference = min(float(query_vectors[position] @ index.vectors[row_of[passage_id]]) for passage_id in right)
        candidates = []
        for score, row in zip(scores[position], neighbours[position], strict=True):
            passage_id = index.passage_ids[row]
            if passage_id in right:
                dropped["positive"] += 1
            elif section_of[passage_id] in sections:
                dropped["same_section"] += 1
            elif settings.exclude_same_document and document_of[passage_id] in documents:
                dropped["same_document"] += 1
            elif document_of[passage_id] not in allowed_documents:
                dropped["not_in_training_documents"] += 1
            else:
                candidates.append((passage_id, float(score)))
        kept = within_margin(candidates, reference, settings.relative_margin)
        if len(kept) < settings.num_negatives:
            starved += 1
            kept, used = relax(candidates, reference, kept, settings)
            if used is not None:
                relaxed[str(used)] += 1
        chosen = kept[: settings.num_negatives]
        dropped["above_margin"] += len(candidates) - len(kept)
        dropped["not_needed"] += len(kept) - len(chosen)
        rows.append(
            {
                "query_id": query_id,
                "positive_ids": list(right),
                "negative_ids": [passage_id for passage_id, _ in chosen],
                "negative_scores": [score for _, score in chosen],
                "teacher_scores": [],
            }
        )
    mined = sum(bool(row["negative_ids"]) for row in rows)
    if not mined:
        raise ValueError(
            f"None of {len(query_ids)} queries keeps a negative. Raise top_k, lower relative_margin, or set "
            "exclude_same_document to false (parameters_negative_mining.yml)."
        )
    audit: dict[str, object] = {
        "queries": len(query_ids),
        "mined": mined,
        "without_negative": len(rows) - mined,
        "starved": starved,
        "relaxed_to_margin": relaxed,
        "dropped": dropped,
        "negatives": sum(len(row["negative_ids"]) for row in rows),  # type: ignore[arg-type, misc]
        "mean_negative_score": float(np.mean([score for row in rows for score in row["negative_scores"]])),  # type: ignore[attr-defined]
    }
    return pd.DataFrame(rows, columns=MINED_COLUMNS), audit


def relax(
    candidates: list[tuple[str, float]], reference: float, kept: list[tuple[str, float]], settings: MiningSettings
) -> tuple[list[tuple[str, float]], float | None]:
    """What the first relaxed margin that suffices keeps, else the one that keeps most; and that margin, if any."""
    used = None
    for margin in settings.relaxed_margins:
        wider = within_margin(candidates, reference, margin)
        if len(wider) > len(kept):
            kept, used = wider, margin
        if len(kept) >= settings.num_negatives:
            break
    return kept, used


def within_margin(candidates: list[tuple[str, float]], reference: float, margin: float) -> list[tuple[str, float]]:
    """The candidates that score at most (1 - margin) times the positive; of a negative one, that much below."""
    ceiling = reference - margin * abs(reference)
    return [candidate for candidate in candidates if candidate[1] <= ceiling]
