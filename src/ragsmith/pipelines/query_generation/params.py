"""Parameters of query_generation."""

from typing import Literal

from pydantic import Field

from ragsmith.pipelines.params import Params


class QueryGenerationParams(Params):
    """All of query_generation."""

    kinds: list[Literal["lead", "question", "heading"]] = Field(
        ["lead", "question", "heading"], min_length=1, description="which structural queries to make"
    )
    round_trip_k: int = Field(50, ge=1, description="a query stays if the base model finds its passage this far down")
