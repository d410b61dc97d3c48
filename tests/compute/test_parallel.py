import threading

import pytest
import torch

from ragsmith.compute.device import Machine
from ragsmith.compute.parallel import side_by_side

MACHINE = Machine("cpu", "fp32")


@pytest.fixture(autouse=True)
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_each_item_is_done_once_in_a_thread_that_computes_alone():
    done = []
    for _ in side_by_side(lambda item: done.append((item, torch.get_num_threads())), range(20), MACHINE):
        pass
    assert sorted(done) == [(item, 1) for item in range(20)]
    assert torch.get_num_threads() == 3


def test_three_are_done_at_once():
    together = threading.Barrier(3, timeout=60)  # breaks, unless three wait for each other
    assert len(list(side_by_side(lambda item: together.wait() and None, range(6), MACHINE))) == 6


def test_what_goes_wrong_is_told_and_threads_are_as_before():
    def work(item: int) -> None:
        if item == 4:
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        list(side_by_side(work, range(9), MACHINE))
    assert torch.get_num_threads() == 3


def test_one_item_is_computed_by_all_threads():
    seen = []
    assert len(list(side_by_side(lambda item: seen.append(torch.get_num_threads()), [0], MACHINE))) == 1
    assert seen == [3]
