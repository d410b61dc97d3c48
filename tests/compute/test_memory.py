import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ragsmith.compute import memory
from ragsmith.compute.memory import (
    GIB,
    LEAST_ACTIVATIONS,
    activation_budget,
    is_out_of_memory,
    machine_memory,
    peak_memory,
)

PROGRAM = """
from pathlib import Path
from ragsmith.compute.memory import freed_memory_kept

def resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 // 2**20

def use():
    blocks = [bytearray(2**20) for _ in range(200)]
    return len(blocks)

before = resident()
with freed_memory_kept():
    with freed_memory_kept():
        use()
    use()
    inside = resident()
print(inside - before, resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc is tuned on Linux with glibc alone")
def test_freed_memory_stays_until_the_end_and_is_given_back_then() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    inside, after = (int(number) for number in done.stdout.split())
    assert inside > 150 and after < 50


GROWING = """
from ragsmith.compute.memory import KeptMemory, freed_memory_kept, memory_now

MIB = 2**20
with freed_memory_kept():
    kept = KeptMemory(slack=100 * MIB)
    held, given = [], []
    for size in (20, 20, 40, 200, 20, 20):
        blocks = [bytearray(MIB) for _ in range(size)]
        del blocks
        given.append(kept.after_step())
        held.append(memory_now() // MIB)
print(given, held[3] - held[0])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc is tuned on Linux with glibc alone")
def test_what_is_kept_between_steps_is_given_back_when_it_has_grown_and_not_before() -> None:
    done = subprocess.run([sys.executable, "-c", GROWING], capture_output=True, text=True, check=True)
    given, growth = done.stdout.rsplit(" ", 1)
    assert given == "[False, False, False, True, False, False]" and int(growth) < 50


@pytest.mark.skipif(platform.system() != "Linux", reason="read from /proc")
def test_the_peak_counts_what_was_held_and_given_back() -> None:
    before = peak_memory()
    assert before is not None
    block = bytearray(before + 100 * 2**20)
    block[:: 2**12] = b"\x01" * len(block[:: 2**12])  # touched, or the kernel never gives it
    del block
    after = peak_memory()
    assert after is not None
    assert after > before + 50 * 2**20


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A machine whose control groups have these limits, by their path."""

    def make(told: str, limits: dict[str, str]) -> None:
        (tmp_path / "own").write_text(told)
        for name, limit in limits.items():
            path = tmp_path / "groups" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(limit)
        monkeypatch.setattr(memory, "OWN_CGROUPS", tmp_path / "own")
        monkeypatch.setattr(memory, "CGROUPS", tmp_path / "groups")

    return make


@pytest.mark.parametrize(
    ("told", "limits", "gib"),
    [
        ("0::/\n", {"memory.max": f"{4 * GIB}\n"}, 4),  # in a container
        ("0::/jobs/17/step\n", {"jobs/17/memory.max": f"{3 * GIB}", "jobs/17/step/memory.max": "max"}, 3),
        ("9:cpu:/\n4:memory:/jobs/17\n", {"memory/jobs/17/memory.limit_in_bytes": f"{2 * GIB}"}, 2),
        ("4:memory:/elsewhere\n", {"memory/memory.limit_in_bytes": f"{1 * GIB}"}, 1),
    ],
)
def test_memory_is_what_the_control_groups_leave_of_it(groups, told: str, limits: dict[str, str], gib: int) -> None:
    groups(told, limits)
    assert machine_memory() == gib * GIB


@pytest.mark.skipif(platform.system() != "Linux", reason="read from /proc")
def test_without_a_limit_memory_is_that_of_the_machine(groups) -> None:
    groups("0::/\n", {"memory.max": "max\n"})
    told = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    assert machine_memory() == pytest.approx(int(told.split()[1]) * 1024, rel=0.01)


def test_activations_may_take_an_eighth_of_the_memory_shared_by_the_processes_and_what_was_set_before_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "machine_memory", lambda: 64 * GIB)
    assert activation_budget(None, "cpu") == 8 * GIB
    assert activation_budget(None, "cpu", processes=4) == 2 * GIB
    assert activation_budget(None, "cpu", processes=64) == LEAST_ACTIVATIONS
    assert (activation_budget(0, "cpu"), activation_budget(0.5, "cpu")) == (0, GIB // 2)
    monkeypatch.setattr(memory, "machine_memory", lambda: None)
    assert activation_budget(None, "cpu") == LEAST_ACTIVATIONS


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("could not create a primitive"), True),  # oneDNN's, seen with `ulimit -v`
        (RuntimeError("could not create a primitive descriptor for the matmul primitive"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("not enough memory"), False),
    ],
)
def test_lack_of_memory_is_told_from_other_errors(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) == expected
