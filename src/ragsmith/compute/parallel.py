"""Several independent computations at once on one processor."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ragsmith.compute.device import Machine

Item = TypeVar("Item")


def side_by_side(work: Callable[[Item], None], items: Sequence[Item], machine: Machine) -> Iterator[None]:
    """Do the work for each item: on the processor one item per thread, and not all threads on one.

    Threads that share an item wait for each other after each of its small steps: as long as all others together where
    the processor is not theirs alone.

    Args:
        work: called in threads of its own, which have neither gradients nor inference mode set.
        items: in the order in which they are begun.
        machine: on another device than the processor, one item after the other.
    Returns:
        Nothing as often as there are items, in their order, each when it is done.
    """
    import torch

    threads = torch.get_num_threads()
    if machine.device != "cpu" or threads == 1 or len(items) == 1:
        for item in items:
            work(item)
            yield None
        return
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for _ in pool.map(work, items):
                yield None
    finally:
        torch.set_num_threads(threads)
