"""Parameters of negative_mining."""

import re
from typing import Any, Literal

from pydantic import Field, model_validator

from ragsmith.pipelines.negative_mining.aliases import translated
from ragsmith.pipelines.params import Params, Seed

RANGE = re.compile(r"\s*(\d+)\s*-\s*(\d+)\s*\Z")


class NegativeMiningParams(Params):
    """All of negative_mining; see `ragsmith.retrieve.mine.MiningSettings`.

    The names of FlagEmbedding's `hn_mine` are understood too (`aliases`) and go before ours: `range_for_sampling` is
    `skip_top` and `top_k` in one, as in `2-200`; `negative_number` is `num_negatives`.
    """

    miner: Literal["dense", "bm25", "hybrid", "random"] = Field("dense", description="what ranks the candidates")
    skip_top: int = Field(0, ge=0, description="ranks left out at the top; 0 is the best rank")
    top_k: int = Field(100, ge=1, le=10_000, description="ranks looked at per query")
    query_prompt: str | None = Field(None, description="put before each query in mining; null: the encoder's own")
    num_negatives: int = Field(4, ge=1, description="negatives kept per query")
    select: Literal["top", "random"] = Field("top", description="the hardest, or drawn among all that may be kept")
    relative_margin: float | None = Field(
        0.05, ge=0, lt=1, description="drop candidates above (1 - margin) × the positive; null sets no such limit"
    )
    relaxed_margins: list[float] = Field([0.02, 0.0], description="tried in turn for queries that starve")
    absolute_margin: float | None = Field(None, ge=0, description="drop candidates less than this below the positive")
    max_score: float | None = Field(None, description="drop candidates above this score")
    min_score: float | None = Field(None, description="drop candidates below this score")
    exclude_same_document: bool = Field(True, description="drop candidates in a positive's document")
    exclude_same_section: bool = Field(True, description="drop the other pieces of a positive's section")
    near_duplicate: float | None = Field(
        0.9, gt=0, le=1, description="drop candidates of this Jaccard similarity to a positive; null: equal texts only"
    )
    rerank_k: int = Field(20, ge=1, description="candidates per query that models.reranker scores")
    rerank_batch_tokens: int = Field(16_384, ge=256, description="padded tokens that it computes at once")
    too_few: Literal["keep_fewer", "backfill_random", "drop"] = Field(
        "keep_fewer", description="what becomes of a query with fewer negatives than wanted"
    )
    audit_queries: int = Field(50, ge=0, description="queries of which all candidates are shown")
    seed: Seed = Field(0, description="of chance")

    @model_validator(mode="before")
    @classmethod
    def other_names(cls, values: Any) -> Any:
        """Translate FlagEmbedding's names."""
        if not isinstance(values, dict):
            return values
        values = translated(values)
        if "range_for_sampling" in values:
            given = values.pop("range_for_sampling")
            found = RANGE.match(str(given))
            if found is None:
                raise ValueError(f"range_for_sampling is {given!r}; write two ranks as first-last, such as 2-200")
            values["skip_top"], values["top_k"] = int(found[1]), int(found[2])
        return values

    @model_validator(mode="after")
    def fits(self) -> "NegativeMiningParams":
        """Refuse values that leave nothing to choose from."""
        if self.skip_top >= self.top_k:
            raise ValueError(f"skip_top is {self.skip_top} and top_k {self.top_k}: no rank is left between them")
        if self.min_score is not None and self.max_score is not None and self.min_score > self.max_score:
            raise ValueError(
                f"min_score {self.min_score} is above max_score {self.max_score}: nothing lies between them"
            )
        if wrong := [margin for margin in self.relaxed_margins if not 0 <= margin < 1]:
            raise ValueError(f"relaxed_margins holds {wrong[0]}; each must be at least 0 and below 1")
        return self
