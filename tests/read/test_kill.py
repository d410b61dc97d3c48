"""`kill -9` while reader and retriever are trained together, then the same call: the same end."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("how", ["in_process", "background", "questions"])
def test_training_killed_in_a_step_a_refresh_or_a_save_ends_as_an_undisturbed_one(tmp_path, how):
    """Losses, dev scores, weights and index are equal bit for bit; the moments are spread over the whole run."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("killed_rag.py")), str(tmp_path), how],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert min(found["points"].values()) > 20 and found["different"] == []
