import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch

from ragsmith.compute.device import Machine
from ragsmith.retrieve import teacher as module
from ragsmith.retrieve.teacher import Teacher

CPU = Machine("cpu", "fp32")
QUERIES = ["how to copy a file", "sort a list in place"]
PASSAGES = ["shutil.copy copies a file", "list.sort sorts in place " * 60, "json.dumps", "os.remove deletes a file"]
QUERY_OF, PASSAGE_OF = np.asarray([0, 0, 0, 1, 1, 0]), np.asarray([0, 1, 2, 1, 3, 0])


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(module, "SHARD_PAIRS", 2)


def test_scores_are_those_of_the_library(tiny_reranker):
    from sentence_transformers import CrossEncoder

    pairs = [(QUERIES[query], PASSAGES[passage]) for query, passage in zip(QUERY_OF, PASSAGE_OF, strict=True)]
    expected = CrossEncoder(str(tiny_reranker), device="cpu").predict(pairs, show_progress_bar=False)
    found = Teacher.load(tiny_reranker, CPU).score(QUERIES, PASSAGES, QUERY_OF, PASSAGE_OF)
    assert found == pytest.approx(expected, abs=1e-4) and np.ptp(found) > 0.01


def test_no_pair_is_computed_twice_not_even_by_another_process(tiny_reranker, tmp_path, monkeypatch):
    first = Teacher.load(tiny_reranker, CPU, tmp_path)
    scores = first.score(QUERIES, PASSAGES, QUERY_OF, PASSAGE_OF)
    assert len(first.known) == 5
    second = Teacher.load(tiny_reranker, CPU, tmp_path)
    monkeypatch.setattr(second, "compute", lambda pairs: pytest.fail(f"computed again: {pairs}"))
    # By content: other places, same texts.
    assert (second.score(QUERIES[::-1], PASSAGES[::-1], 1 - QUERY_OF, 3 - PASSAGE_OF) == scores).all()
    assert second.score(QUERIES, PASSAGES, QUERY_OF[:0], PASSAGE_OF[:0]).shape == (0,)


def test_other_precision_other_scores_other_place(tiny_reranker, tmp_path):
    Teacher.load(tiny_reranker, CPU, tmp_path).score(QUERIES, PASSAGES, QUERY_OF, PASSAGE_OF)
    assert len(Teacher.load(tiny_reranker, Machine("cpu", "bf16"), tmp_path).known) == 0


def test_a_shard_that_was_altered_is_computed_again(tiny_reranker, tmp_path):
    scores = Teacher.load(tiny_reranker, CPU, tmp_path).score(QUERIES, PASSAGES, QUERY_OF, PASSAGE_OF)
    shard = min(tmp_path.rglob("*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-5])
    again = Teacher.load(tiny_reranker, CPU, tmp_path)
    assert len(again.known) == 3
    assert again.score(QUERIES, PASSAGES, QUERY_OF, PASSAGE_OF) == pytest.approx(scores, abs=1e-5)


def test_a_run_that_is_killed_keeps_what_it_has_published(tiny_reranker, tmp_path):
    program = f"""
        import os, signal, sys
        import numpy as np
        sys.path[:0] = {sys.path!r}
        from pathlib import Path
        from ragsmith.compute.device import Machine
        from ragsmith.retrieve import teacher as module
        module.SHARD_PAIRS = 2
        teacher = module.Teacher.load(Path({str(tiny_reranker)!r}), Machine("cpu", "fp32"), Path({str(tmp_path)!r}))
        compute, calls = teacher.compute, []
        def killed(pairs):
            calls.append(pairs)
            if len(calls) == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return compute(pairs)
        teacher.compute = killed
        teacher.score({QUERIES!r}, {PASSAGES!r}, np.asarray({QUERY_OF.tolist()}), np.asarray({PASSAGE_OF.tolist()}))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == -signal.SIGKILL
    resumed = Teacher.load(tiny_reranker, CPU, tmp_path)
    assert len(resumed.known) == 4
    whole = Teacher.load(tiny_reranker, CPU).score(QUERIES, PASSAGES, QUERY_OF, PASSAGE_OF)
    assert resumed.score(QUERIES, PASSAGES, QUERY_OF, PASSAGE_OF) == pytest.approx(whole, abs=1e-4)


def test_two_texts_of_a_hundred_thousand_characters_score_as_their_beginnings_and_at_once(tiny_reranker):
    teacher, pair = Teacher.load(tiny_reranker, CPU), np.zeros(1, dtype=np.int64)
    query, passage = "where is the tree " * 5_600, "the tree is over there " * 4_400
    begin = time.monotonic()
    whole = teacher.score([query], [passage], pair, pair)
    assert time.monotonic() - begin < 30  # and not hours
    # The query has more tokens than the passage each time: the odd token goes to the longer one.
    assert whole == pytest.approx(teacher.score([query[:1_800]], [passage[:1_380]], pair, pair), abs=1e-5)


def test_a_classifier_of_several_kinds_is_no_teacher(tiny_reranker):
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(tiny_reranker), device="cpu", num_labels=1)
    model.model.config.num_labels = 3
    model.config.num_labels = 3
    with pytest.raises(ValueError, match=r"models\.reranker gives 3 scores per pair"):
        Teacher(model, CPU)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_refused_and_not_kept(tiny_reranker, tmp_path, monkeypatch, wrong):
    teacher = Teacher.load(tiny_reranker, CPU, tmp_path)
    monkeypatch.setattr(teacher.model, "predict", lambda texts, **_: np.full(len(texts), wrong, dtype=np.float32))
    with pytest.raises(ValueError, match=r"models\.reranker gives scores that are no numbers"):
        teacher.score(["q"], ["a"], np.array([0]), np.array([0]))
    assert not list(tmp_path.rglob("*.parquet"))


def test_a_cross_encoder_says_whether_its_scores_are_logits(tiny_reranker):
    teacher = Teacher.load(tiny_reranker, CPU)
    assert not teacher.gives_logits
    teacher.model.activation_fn = torch.nn.Identity()
    assert Teacher(teacher.model, CPU).gives_logits
