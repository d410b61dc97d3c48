import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ragsmith.compute.device import Machine
from ragsmith.retrieve import encoder as module
from ragsmith.retrieve.encoder import Encoder, load_sentence_transformer
from ragsmith.retrieve.routes import Kind

CPU = Machine("cpu", "fp32")
TEXTS = [f"text number {number}" for number in range(12)] + ["text number 3", ""]


@pytest.fixture
def encoder(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Encoder:
    monkeypatch.setattr(module, "CHUNK", 4)
    return Encoder.load(tiny_model, CPU)


def encoded(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """From now on, the texts that are really tokenised."""
    seen: list[str] = []
    token_ids = encoder.token_ids

    def watched(texts: Sequence[str], kind: Kind) -> list[list[int]]:
        seen.extend(texts)
        return token_ids(texts, kind)

    monkeypatch.setattr(encoder, "token_ids", watched)
    return seen


def test_cached_vectors_are_those_without_a_cache_and_each_text_is_encoded_once(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = encoder.encode(TEXTS, "passage")
    seen = encoded(encoder, monkeypatch)
    np.testing.assert_allclose(encoder.encode(TEXTS, "passage", cache=tmp_path), expected, atol=1e-6)
    assert sorted(seen) == sorted(set(TEXTS))
    again = encoder.encode(TEXTS[::-1], "passage", cache=tmp_path)
    np.testing.assert_allclose(again, expected[::-1], atol=1e-6)
    assert len(seen) == len(set(TEXTS))


def test_one_more_text_is_one_text_encoded(encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder.encode(TEXTS, "passage", cache=tmp_path)
    seen = encoded(encoder, monkeypatch)
    vectors = encoder.encode([*TEXTS, "one more"], "passage", cache=tmp_path)
    assert seen == ["one more"]
    np.testing.assert_allclose(vectors, encoder.encode([*TEXTS, "one more"], "passage"), atol=1e-6)


@pytest.mark.parametrize("change", ["weights", "prompt", "length", "precision", "tokenizer", "pooling"])
def test_another_key_is_encoded_anew_and_the_old_one_s_vectors_go(
    change: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Encoder.load(tiny_model, CPU).encode(TEXTS, "passage", cache=tmp_path)
    (old,) = tmp_path.iterdir()
    model = load_sentence_transformer(tiny_model)
    if change == "weights":
        next(model.parameters()).data[0, 0] += 1e-6
    if change == "prompt":
        model.prompts["document"] = "passage: "
    if change == "tokenizer":
        model.tokenizer.add_tokens(["number"])
    if change == "pooling":
        model[1].pooling_mode = "cls"
    machine = Machine("cpu", "bf16") if change == "precision" else CPU
    changed = Encoder(model, machine, max_tokens=9 if change == "length" else None)
    seen = encoded(changed, monkeypatch)
    changed.encode(TEXTS, "passage", cache=tmp_path)
    assert len(seen) == len(set(TEXTS)) and not old.exists() and len(list(tmp_path.iterdir())) == 1


def test_what_the_tokenizer_did_before_does_not_change_the_key(tiny_model: Path) -> None:
    one, other = Encoder.load(tiny_model, CPU), Encoder.load(tiny_model, CPU)
    other.token_ids(["some text"], "query")
    assert one.identity("query") == other.identity("query") == one.identity("passage")


@pytest.mark.parametrize("harm", ["cut", "altered", "removed", "without metadata"])
def test_a_shard_that_is_not_whole_is_encoded_again(
    harm: str, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = encoder.encode(TEXTS, "passage", cache=tmp_path)
    shard = sorted(path for path in next(tmp_path.iterdir()).iterdir() if path.is_dir())[0]
    file = shard / "vectors.npy"
    data = file.read_bytes()
    if harm == "cut":
        file.write_bytes(data[:-7])
    if harm == "altered":
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    if harm == "removed":
        file.unlink()
    if harm == "without metadata":
        (shard / "_artefact.json").unlink()
    seen = encoded(encoder, monkeypatch)
    np.testing.assert_allclose(encoder.encode(TEXTS, "passage", cache=tmp_path), expected, atol=1e-6)
    assert 0 < len(seen) <= 4


def test_a_process_that_is_killed_loses_no_shard_that_was_whole(
    encoder: Encoder, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = f"""
        import os, signal
        from pathlib import Path
        from ragsmith.compute.device import Machine
        from ragsmith.retrieve import encoder as module
        from ragsmith.retrieve import vector_cache
        module.CHUNK = 4
        published = 0
        publish = vector_cache.publish_directory
        def dying(target, write):
            global published
            published += 1
            def half(staging):
                write(staging)
                if published == 3:
                    os.truncate(staging / "vectors.npy", 10)
                    os.kill(os.getpid(), signal.SIGKILL)
            publish(target, half)
        vector_cache.publish_directory = dying
        encoder = module.Encoder.load(Path({str(tiny_model)!r}), Machine("cpu", "fp32"))
        encoder.encode({TEXTS!r}, "passage", cache=Path({str(tmp_path)!r}))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], env={**os.environ}, timeout=300)
    assert done.returncode == -signal.SIGKILL
    seen = encoded(encoder, monkeypatch)
    vectors = encoder.encode(TEXTS, "passage", cache=tmp_path)
    assert len(seen) == len(set(TEXTS)) - 2 * 4
    np.testing.assert_allclose(vectors, encoder.encode(TEXTS, "passage"), atol=1e-6)
    assert not list(next(tmp_path.iterdir()).glob(".*"))  # and nothing half-written stays


def test_vectors_of_texts_that_are_gone_are_removed(encoder: Encoder, tmp_path: Path) -> None:
    encoder.encode(TEXTS[:4], "passage", cache=tmp_path)
    encoder.encode(TEXTS[4:8], "passage", cache=tmp_path)
    assert len(list(next(tmp_path.iterdir()).iterdir())) == 1
