"""Parameters that every pipeline shares."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ragsmith.compute.device import Machine, probe


class Params(BaseModel):
    """A block of parameters: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ComputeParams(Params):
    """Where and how the numbers are computed."""

    backend: Literal["local", "ray"] = Field("local", description="in this process, or on a Ray cluster")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto prefers CUDA when it is there")
    precision: Literal["auto", "fp32", "bf16", "int8"] = Field(
        "auto", description="auto takes bf16 where the processor multiplies in it; int8 is for encoding alone"
    )
    ranks: int = Field(1, ge=1, description="processes that train a retriever together, one card each")
    batch_tokens: int = Field(8192, ge=256, description="tokens encoded at once")

    def machine(self) -> Machine:
        """The device and precision, probed."""
        return probe(self.device, self.precision)
