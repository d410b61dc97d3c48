"""Real writers on a device that is always full."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ragsmith.store import out_of_space

FULL = Path("/dev/full")
pytestmark = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


def text(path: Path) -> None:
    path.write_text(json.dumps(list(range(10_000))), "utf-8")


def array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(100_000))


def table(path: Path) -> None:
    with path.open("wb") as file:
        pd.DataFrame({"number": range(10_000)}).to_parquet(file)


@pytest.mark.parametrize("write", [text, array, table])
def test_error_of_a_full_disk_is_known_whoever_writes(write):
    with pytest.raises(Exception) as caught:
        write(FULL)
    assert out_of_space(caught.value)


def test_error_of_safetensors_is_known(tmp_path):
    # It writes beside and renames, so that no device can take its file's place: a limit of the file's size can.
    code = """
        import resource, sys, torch
        from safetensors.torch import save_file
        from ragsmith.store import out_of_space
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            save_file({"weights": torch.zeros(100_000)}, sys.argv[1])
        except Exception as error:
            sys.exit(0 if out_of_space(error) else repr(error))
        sys.exit("nothing was raised")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "weights")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_cause_of_another_error_counts_and_others_do_not():
    try:
        try:
            FULL.write_text("x" * 10_000)
        except OSError as error:
            raise RuntimeError("the step failed") from error
    except RuntimeError as error:
        assert out_of_space(error)
    assert not out_of_space(FileNotFoundError(2, "No such file or directory"))
    assert not out_of_space(ValueError("35 texts requested"))
