import platform
import subprocess
import sys

import pytest

from ragsmith.compute.memory import peak_memory

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
