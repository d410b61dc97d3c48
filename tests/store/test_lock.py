"""One process at a time, and a killed one holds nobody up."""

import subprocess
import sys

import pytest

from ragsmith.store import LockHeld, exclusive

HOLDER = """
import sys, time
from pathlib import Path
from ragsmith.store import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_second_process_is_told_who_has_the_lock_and_a_killed_holder_frees_it(tmp_path):
    path = tmp_path / "data" / ".lock"
    with subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(LockHeld, match=rf"process {holder.pid}\)"), exclusive(path):
            pass
        holder.kill()
        holder.wait()
    with exclusive(path):
        pass


def test_second_run_of_the_same_process_is_refused_and_the_lock_can_be_taken_again(tmp_path):
    with exclusive(tmp_path / "lock"):
        with pytest.raises(LockHeld, match="another run of this process"), exclusive(tmp_path / "lock"):
            pass
    with exclusive(tmp_path / "lock"):
        pass
