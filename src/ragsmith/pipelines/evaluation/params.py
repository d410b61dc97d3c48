"""Parameters of evaluation."""

from typing import Literal

from pydantic import Field

from ragsmith.pipelines.params import Params

MetricName = str


class EvaluationParams(Params):
    """All of evaluation."""

    metrics: list[MetricName] = Field(
        ["ndcg@10", "mrr@10", "recall@10"], min_length=1, description="of retrieval: name@depth"
    )
    baseline: Literal["bm25", "base", "hybrid"] = Field(
        "base", description="what the tuned retriever is compared with first"
    )
    depth: int = Field(100, ge=10, le=1000, description="passages retrieved per question")
    passages: int = Field(5, ge=1, le=100, description="passages that the reader reads; as in rag_training")
    samples: int = Field(10_000, ge=100, description="of the bootstrap and of the permutation test")
    seed: int = Field(0, ge=0, description="of both")
