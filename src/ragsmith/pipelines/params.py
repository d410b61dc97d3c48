"""Parameters that every pipeline shares."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ragsmith.compute.device import Machine, probe

if TYPE_CHECKING:
    from ragsmith.learn.lora import LoraSettings
    from ragsmith.retrieve.index import IndexSettings


# The largest that numpy's older generators take, and so pandas.
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]


class Params(BaseModel):
    """A block of parameters: unknown keys and numbers that are not finite are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ComputeParams(Params):
    """Where and how the numbers are computed."""

    backend: Literal["local", "ray"] = Field(
        "local", description="where a retriever is trained: on this machine, or by a Ray cluster"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto prefers CUDA when it is there")
    precision: Literal["auto", "fp32", "bf16", "int8"] = Field(
        "auto", description="auto takes bf16 where the processor multiplies in it; int8 is for encoding alone"
    )
    ranks: int = Field(1, ge=1, description="processes that train a retriever together, one card each")
    batch_tokens: int = Field(8192, ge=256, description="tokens encoded at once")

    def machine(self) -> Machine:
        """The device and precision, probed."""
        return probe(self.device, self.precision)


class IndexParams(Params):
    """How the vectors of the passages are searched; M, efConstruction and efSearch are those of HNSW."""

    kind: Literal["auto", "flat", "hnsw"] = Field("auto", description="exact, or by a graph; auto: by size")
    flat_up_to: int = Field(1_000_000, ge=0, description="passages up to which auto is flat")
    M: int = Field(32, ge=2, le=256, description="links of a passage; twice as many in the lowest level")
    efConstruction: int = Field(  # noqa: N815
        100, ge=1, le=10_000, description="candidates that the links of a new passage are chosen from"
    )
    efSearch: int = Field(128, ge=1, le=10_000, description="candidates of a query: recall against time")  # noqa: N815

    def settings(self) -> "IndexSettings":
        """The same for the library."""
        from ragsmith.retrieve.hnsw import HnswSettings
        from ragsmith.retrieve.index import IndexSettings

        return IndexSettings(self.kind, self.flat_up_to, HnswSettings(self.M, self.efConstruction, self.efSearch))


class LoraParams(Params):
    """Low-rank adapters (Hu et al. 2021)."""

    rank: int = Field(0, ge=0, description="0 trains all weights, and no adapter")
    alpha: int = Field(32, ge=1, description="the adapters count alpha / rank")
    targets: str | list[str] = Field("all-linear", description="names of the layers that get one")

    def settings(self) -> "LoraSettings":
        """The same for the library."""
        from ragsmith.learn.lora import LoraSettings

        return LoraSettings(
            self.rank, self.alpha, self.targets if isinstance(self.targets, str) else tuple(self.targets)
        )


def plain(value: Any) -> Any:
    """Parameters as JSON holds them, the same whether they have been checked or not.

    Kedro gives the blocks of the pipelines that run as their models, where 60 has become 60.0, and the others as they
    stand in the files, which it reads in any order.
    """
    if isinstance(value, BaseModel):
        return plain(value.model_dump(mode="json"))
    if isinstance(value, dict):
        return {name: plain(value[name]) for name in sorted(value)}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
