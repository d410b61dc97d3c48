"""Which device computes and in which precision: probed, never assumed."""

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

DeviceName = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16", "int8"]


@dataclass(frozen=True)
class Machine:
    """A device and its precision, as chosen by `probe`.

    Attributes:
        device: `cpu` or `cuda`.
        precision: `fp32` or `bf16` (matrix products in bfloat16, weights and sums in float32).
        int8: encoders multiply in eight bits where they can; whatever is trained does not.
    """

    device: str
    precision: str
    int8: bool = False

    def autocast(self) -> "contextlib.AbstractContextManager[object]":
        """The context in which a forward pass runs in this precision."""
        import torch

        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device, dtype=torch.bfloat16)

    def seed(self, seed: int) -> "torch.Generator":
        """Seed every generator of this device and return torch's own."""
        import torch

        return torch.manual_seed(seed)


def probe(device: DeviceName = "auto", precision: Precision = "auto") -> Machine:
    """The device and precision to use here.

    bfloat16 is taken only where the processor multiplies in it (AVX512-BF16, AMX, CUDA from compute capability 8.0):
    elsewhere it is emulated, up to a hundred times slower than float32.

    Args:
        device: `auto` prefers CUDA when it is there.
        precision: `auto` probes; `int8` is what `auto` gives, and encoders in eight bits; the others are taken as
            given.
    Raises:
        ValueError: `cuda` was asked for and is not there.
    """
    import torch

    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise ValueError(
            "device 'cuda' was asked for, but torch sees no CUDA device. Use 'auto' or 'cpu' in globals.yml."
        )
    chosen = ("cuda" if has_cuda else "cpu") if device == "auto" else device
    if precision in {"fp32", "bf16"}:
        return Machine(chosen, precision)
    if chosen == "cuda":
        fast = torch.cuda.get_device_capability() >= (8, 0)
    else:
        # Private names, but the only probe that torch has; a torch without them is taken as a processor without bf16.
        probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        fast = any(bool(getattr(torch.cpu, name, bool)()) for name in probes)
    return Machine(chosen, "bf16" if fast else "fp32", precision == "int8")
