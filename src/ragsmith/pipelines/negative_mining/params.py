"""Parameters of negative_mining."""

from pydantic import Field

from ragsmith.pipelines.params import Params


class NegativeMiningParams(Params):
    """All of negative_mining; see `ragsmith.retrieve.mine.MiningSettings`."""

    top_k: int = Field(100, ge=1, le=10_000, description="neighbours looked at per query")
    num_negatives: int = Field(4, ge=1, description="negatives kept per query, the nearest first")
    relative_margin: float = Field(0.05, ge=0, lt=1, description="drop neighbours above (1 - margin) × the positive")
    relaxed_margins: list[float] = Field([0.02, 0.0], description="tried in turn for queries that starve")
    exclude_same_document: bool = Field(True, description="drop neighbours in a positive's document")
