"""Steps of query_generation."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from ragsmith.pipelines.params import ComputeParams, IndexParams
from ragsmith.pipelines.query_generation.params import QueryGenerationParams

logger = logging.getLogger(__name__)


def index_base(
    base_encoder: Path, passages: pd.DataFrame, params: IndexParams, compute: ComputeParams, work: Path
) -> Path:
    """Encode all passages with the model as it comes."""
    from ragsmith.retrieve.build import build_index

    machine, settings = compute.machine(), params.settings()
    return build_index(base_encoder, passages, machine, compute.batch_tokens, work, "base index", settings)


def generate(
    passages: pd.DataFrame,
    splits: pd.DataFrame,
    gold: pd.DataFrame,
    examples: pd.DataFrame,
    params: QueryGenerationParams,
) -> pd.DataFrame:
    """Structural queries of the training documents; without gold questions, of dev and test too."""
    from ragsmith.synthesize.structural import generate_queries

    wanted = splits[splits["split"] == "train"] if len(gold) else splits
    # Plain text has no headings to make queries from; written questions can do without.
    queries = generate_queries(passages, wanted, required=not (len(gold) and len(examples)))
    return queries[queries["kind"].isin(params.kinds)].reset_index(drop=True)


def filter_queries(
    generated: pd.DataFrame,
    examples: pd.DataFrame,
    gold: pd.DataFrame,
    splits: pd.DataFrame,
    passages: pd.DataFrame,
    base_encoder: Path,
    base_index: Path,
    params: QueryGenerationParams,
    compute: ComputeParams,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Keep the queries that find their passage; join them with examples and gold: queries, qrels, answers."""
    from ragsmith.retrieve.build import load_index
    from ragsmith.retrieve.encoder import Encoder
    from ragsmith.synthesize.filter import merge_same_text, round_trip
    from ragsmith.synthesize.tables import example_tables, gold_tables, heading_answers

    encoder = Encoder.load(base_encoder, compute.machine(), batch_tokens=compute.batch_tokens)
    vectors = encoder.encode(generated["text"].tolist(), "query", "round trip")
    found, removed = round_trip(generated, vectors, load_index(base_index, base_encoder), params.round_trip_k)
    kept, pairs = merge_same_text(found)
    structural = (kept, pairs.assign(grade=1), heading_answers(kept, pairs, passages))
    tables = zip(structural, example_tables(examples), gold_tables(gold, splits), strict=True)
    queries, qrels, answers = (pd.concat(parts, ignore_index=True) for parts in tables)
    report = {
        "generated": len(generated),
        "kept": len(kept),
        "removed": {"round trip": len(removed), "same text": len(found) - len(kept)},
        "by_kind": {str(kind): int(count) for kind, count in queries["kind"].value_counts().items()},
        "by_split": {str(split): int(count) for split, count in queries["split"].value_counts().items()},
        "samples": kept.sample(min(10, len(kept)), random_state=0)["text"].tolist(),
    }
    logger.info("queries: %d generated, %d kept, %s", len(generated), len(kept), report["by_split"])
    return queries, qrels, answers, removed, report
