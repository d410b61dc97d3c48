"""Both back ends: the same tests, as they train the same rows."""

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from ragsmith.compute.device import Machine
from ragsmith.learn.backends import flagembedding, sentence_transformers
from ragsmith.learn.backends.rows import training_rows
from ragsmith.learn.contrastive import ContrastiveSettings
from ragsmith.learn.loop import LoopSettings
from ragsmith.learn.train_retriever import RetrieverSettings
from ragsmith.learn.training_data import training_examples
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.models import check_model_folder

needs_flagembedding = pytest.mark.skipif(
    importlib.util.find_spec("FlagEmbedding") is None, reason="FlagEmbedding is not installed"
)
BACKENDS = [
    pytest.param(sentence_transformers, id="sentence_transformers"),
    pytest.param(flagembedding, id="flagembedding", marks=[needs_flagembedding, pytest.mark.slow]),
]
TEXTS = ["how to copy a file", "Wait for a number of seconds."]


@pytest.fixture
def settings() -> RetrieverSettings:
    contrastive = ContrastiveSettings(max_query_tokens=16, max_passage_tokens=24)
    return RetrieverSettings(3, 2, 0.0, contrastive, LoopSettings(epochs=2, learning_rate=1e-3))


@pytest.fixture
def examples(queries, mined):
    return training_examples(queries, mined)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_few_steps_change_the_weights_and_the_folder_reloads_with_the_pooling_of_the_base(
    backend: ModuleType, tiny_model, examples, passages, settings, machine, tmp_path
):
    folder = backend.train(tiny_model, examples, passages, settings, machine, tmp_path)
    check_model_folder(folder)
    assert not [path for path in folder.rglob("*") if path.suffix in {".bin", ".pt", ".pkl"}]
    base, tuned = (SentenceTransformer(str(path), device="cpu") for path in (tiny_model, folder))
    assert [type(module).__name__ for module in tuned] == [type(module).__name__ for module in base]
    assert tuned[1].pooling_mode == "mean"
    before, after = Encoder.load(tiny_model, machine), Encoder.load(folder, machine)
    moved = before.encode(TEXTS, "passage") - after.encode(TEXTS, "passage")
    assert np.abs(moved).max() > 0.01
    layers = {name: p for name, p in base.named_parameters() if "query.weight" in name}
    assert all((dict(tuned.named_parameters())[name] - p).abs().max() > 1e-4 for name, p in layers.items())


def test_training_with_sentence_transformers_in_bf16_changes_the_weights(
    tiny_model, examples, passages, settings, tmp_path
):
    trained = [
        sentence_transformers.train(
            tiny_model, examples, passages, settings, Machine("cpu", precision), tmp_path / precision
        )
        for precision in ("bf16", "fp32")
    ]
    half, whole = (Encoder.load(folder, Machine("cpu", "fp32")).encode(TEXTS, "passage") for folder in trained)
    assert 0 < np.abs(half - whole).max() < 0.2


def test_training_with_the_same_seed_gives_the_same_weights(
    tiny_model, examples, passages, settings, machine, tmp_path
):
    vectors = [
        Encoder.load(
            sentence_transformers.train(tiny_model, examples, passages, settings, machine, tmp_path / name), machine
        ).encode(TEXTS, "passage")
        for name in ("one", "other")
    ]
    assert np.array_equal(*vectors)


def test_the_schedule_the_accumulation_and_the_optimizer_are_handed_on(
    tiny_model, examples, passages, settings, machine, tmp_path
):
    loop = replace(settings.loop, schedule="constant", accumulation=2, optimizer="adam", weight_decay=0.1, warmup=3)
    settings = replace(settings, loop=loop)
    rows = training_rows(examples, passages, settings, Encoder.load(tiny_model, machine))
    theirs = sentence_transformers.make_trainer(tiny_model, rows, settings, machine, tmp_path).args
    found = (
        theirs.lr_scheduler_type.value,
        theirs.gradient_accumulation_steps,
        theirs.weight_decay,
        theirs.warmup_steps,
    )
    assert found == ("constant_with_warmup", 2, 0.0, 3)
    options = flagembedding.arguments(tiny_model, rows, settings, machine, tmp_path)
    names = ("lr_scheduler_type", "gradient_accumulation_steps", "weight_decay", "warmup_steps")
    assert [options[options.index(f"--{name}") + 1] for name in names] == ["constant_with_warmup", "2", "0.0", "3"]


@needs_flagembedding
@pytest.mark.slow
def test_a_failure_of_flagembedding_is_told_with_its_last_lines(
    tiny_model, examples, passages, settings, machine, tmp_path, monkeypatch
):
    monkeypatch.setattr(flagembedding, "MODULE", "FlagEmbedding.no_such_module")
    with pytest.raises(RuntimeError, match=r"status 1; .*flagembedding\.log(.|\n)*no_such_module"):
        flagembedding.train(tiny_model, examples, passages, settings, machine, tmp_path)


def test_without_flagembedding_the_command_to_install_it_is_named(
    tiny_model, examples, passages, settings, machine, tmp_path, monkeypatch
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'ragsmith\[flagembedding\]'"):
        flagembedding.train(tiny_model, examples, passages, settings, machine, tmp_path)


def test_without_datasets_the_command_to_install_it_is_named(
    tiny_model, examples, passages, settings, machine, tmp_path, monkeypatch
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "datasets" else name)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'ragsmith\[trainer\]'"):
        sentence_transformers.train(tiny_model, examples, passages, settings, machine, tmp_path)


def test_the_settings_reach_flagembedding(tiny_model, settings, tmp_path):
    line = flagembedding.arguments(tiny_model, [], settings, Machine("cpu", "bf16"), tmp_path)
    given = dict(zip(line[::2], line[1::2], strict=True))
    expected = {
        "--sentence_pooling_method": "mean",
        "--train_group_size": "3",
        "--query_max_len": "16",
        "--passage_max_len": "24",
        "--temperature": "0.05",
        "--normalize_embeddings": "True",
        "--bf16": "True",
        "--use_cpu": "True",
        "--seed": "0",
    }
    assert expected.items() <= given.items()


def test_flagembedding_does_not_outlive_the_run_that_started_it(tmp_path):
    stand_in = tmp_path / "stand_in.py"
    stand_in.write_text("import os, pathlib, time\npathlib.Path('pid').write_text(str(os.getpid()))\ntime.sleep(600)")
    run = tmp_path / "run.py"
    run.write_text(
        "from pathlib import Path\n"
        "from ragsmith.learn.backends import flagembedding\n"
        "flagembedding.require, flagembedding.MODULE = lambda: None, 'stand_in'\n"
        "flagembedding.Encoder = type('Encoder', (), {'load': staticmethod(lambda *_: None)})\n"
        "flagembedding.arguments = flagembedding.training_rows = lambda *_: []\n"
        "flagembedding.train(Path('.'), [], None, None, None, Path('work'))\n"
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    parent = subprocess.Popen([sys.executable, str(run)], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path})
    try:
        until(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text())
        parent.kill()
        parent.wait()
        child = Path("/proc") / (tmp_path / "pid").read_text()
        until(lambda: not child.exists() or "Z" in (child / "stat").read_text().split(")")[1][:3])
    finally:
        parent.kill()


def until(holds: Callable[[], object]) -> None:
    """Wait until something holds, a minute at most."""
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)
