import pytest
import torch

from ragsmith.compute.device import Machine, probe

no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")


def test_what_is_asked_for_is_taken_as_given() -> None:
    assert probe("cpu", "fp32") == Machine("cpu", "fp32")
    assert probe("cpu", "bf16") == Machine("cpu", "bf16")


@no_cuda
def test_int8_is_what_auto_gives_and_encoders_in_eight_bits() -> None:
    assert probe("cpu", "int8") == Machine("cpu", probe("cpu").precision, int8=True)


@no_cuda
def test_cuda_that_is_not_there_is_an_error_that_says_what_to_write() -> None:
    with pytest.raises(ValueError, match=r"sees no CUDA device\. Use 'auto' or 'cpu'"):
        probe("cuda")


@no_cuda
def test_auto_takes_the_cpu_in_a_precision_that_it_multiplies_in() -> None:
    machine = probe()
    flags = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    assert machine == Machine("cpu", "bf16" if flags else "fp32")


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_matrix_products_run_in_the_precision_and_weights_stay_float32(precision: str, dtype: torch.dtype) -> None:
    layer = torch.nn.Linear(4, 4)
    with Machine("cpu", precision).autocast():
        assert layer(torch.ones(1, 4)).dtype == dtype
    assert layer.weight.dtype == torch.float32


def test_one_seed_gives_one_stream() -> None:
    machine = Machine("cpu", "fp32")
    with torch.random.fork_rng(devices=[]):
        machine.seed(3)
        first = torch.rand(4)
        assert torch.equal(torch.rand(4, generator=machine.seed(3)), first)
